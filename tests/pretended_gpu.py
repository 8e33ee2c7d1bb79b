"""A GPU that is not there: tensors that say they are on "cuda", held and computed on the CPU.

What goes wrong on a GPU in code that was only ever run on a CPU is mostly one thing: two tensors
on different devices. Within `pretended_gpu` such a mixture fails as it does on a real one, a
tensor on the GPU has no `numpy()`, and a generator draws for its own device only. Kernels,
streams, graphs and the compiler are not pretended.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only

from tradeoff.networks import device

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
aten = torch.ops.aten

# These take tensors of two devices: a copy by its nature, indexing by indices on the CPU.
COPIES = {aten.copy_.default, aten._to_copy.default}
INDEXING = {
    aten.index.Tensor,
    aten.index_put_.default,
    aten.index_put.default,
    aten._index_put_impl_.default,
}

# On a GPU they may be channels-last whatever their width, which the CPU's do not survive
# (`core.device.place`).
CONVOLUTIONS = {aten.convolution.default, aten.convolution_backward.default}


class OnGpu(Tensor):
    """A tensor that says it is on the GPU, around the one that holds its values.

    To torch's own code it is on the CPU, because the autograd engine would look for a real
    device; so the methods that depend on the device are answered here.
    """

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnGpu":
        self: OnGpu = Tensor._make_subclass(cls, held.detach())
        self.held = held
        return self

    def __repr__(self, **_: object) -> str:  # type: ignore[override]
        return f"OnGpu({self.held!r})"

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if (answer := ANSWERS.get(function)) is not None:
            return answer(*args, **kwargs)
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(
        cls, operator: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return compute(operator, args, kwargs or {})


def move(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """`Tensor.to`, which would take what is on the pretended GPU for being on the CPU."""
    if args and isinstance(args[0], Tensor):
        args = (args[0].device, args[0].dtype, *args[1:])
    device, dtype, _, memory_format = torch._C._nn._parse_to(*args, **kwargs)
    device, dtype = device or tensor.device, dtype or tensor.dtype
    if device.type == tensor.device.type and dtype == tensor.dtype and memory_format is None:
        return tensor
    if device.type == "cpu" and isinstance(tensor, OnGpu):
        return ToCpu.apply(tensor).to(dtype=dtype)
    device = GPU if device.type == "cuda" else device
    return aten._to_copy(tensor, dtype=dtype, device=device, memory_format=memory_format)


class ToCpu(torch.autograd.Function):
    """From the pretended GPU to the CPU, and the gradient back."""

    @staticmethod
    def forward(_context: Any, tensor: OnGpu) -> Tensor:
        return tensor.held.clone()

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return OnGpu(gradient)


def refuse_numpy(*_: Any, **__: Any) -> None:
    raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")


ANSWERS: dict[Any, Any] = {
    Tensor.device.__get__: lambda tensor: GPU,
    Tensor.is_cuda.__get__: lambda tensor: True,
    Tensor.is_cpu.__get__: lambda tensor: False,
    Tensor.to: move,
    Tensor.cpu: lambda tensor: move(tensor, CPU),
    Tensor.numpy: refuse_numpy,
    Tensor.__array__: refuse_numpy,
    Tensor.__reduce_ex__: lambda tensor, protocol: tensor.held.__reduce_ex__(protocol),
    Tensor.__format__: lambda tensor, spec: format(tensor.held, spec),
    Tensor.tolist: lambda tensor: tensor.held.tolist(),
}


class Pretending(TorchDispatchMode):
    """Sees the operators without a tensor among their arguments, which make new ones."""

    def __torch_dispatch__(
        self, operator: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return compute(operator, args, kwargs or {})


class Generator(torch.Generator):
    """A generator that says which device it draws for."""

    def __new__(cls, device: torch.device | str = "cpu") -> "Generator":
        self = super().__new__(cls, "cpu")
        self.draws_for = torch.device(device).type
        return self


class Asking(TorchFunctionMode):
    """Sees what is asked of tensors on the CPU: to go to the GPU, to draw by a generator.

    Below torch's functions a generator has no name, and "cuda" has to be a real device. Inside the
    function that it lets through it sees nothing: there `OnGpu` answers for itself.
    """

    def __torch_function__(
        self, function: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        draws = kwargs.get("generator")
        if isinstance(draws, Generator):
            given = any(isinstance(value, OnGpu) for value in args)
            asked = kwargs.get("device") or (GPU if given else CPU)
            if draws.draws_for != torch.device(asked).type:
                raise RuntimeError(f"expected a {asked} generator, but found {draws.draws_for}")
        if function is Tensor.to:
            return move(*args, **kwargs)
        if function in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            return move(function(*args, **kwargs | {"device": CPU}), kwargs["device"])
        return function(*args, **kwargs)


def compute(operator: Any, args: Any, kwargs: Any) -> Any:
    """An operator's result, computed on the CPU, on the device where it belongs."""
    flat = tree_flatten((args, kwargs))[0]
    ours = [value for value in flat if isinstance(value, OnGpu)]
    # A conversion that the autograd engine asks for stays where it is; all others are in `move`.
    asked = None if ours and operator is aten._to_copy.default else kwargs.get("device")
    on_gpu = bool(ours) if asked is None else torch.device(asked).type == "cuda"
    if ours:
        check_devices(operator, args, flat)
    plain_args, plain_kwargs = tree_map_only(OnGpu, lambda tensor: tensor.held, (args, kwargs))
    if "device" in plain_kwargs:
        plain_kwargs["device"] = CPU
    if operator in CONVOLUTIONS:
        result = convolve(operator, plain_args)
    else:
        result = operator(*plain_args, **plain_kwargs)
    if on_gpu:
        result = tree_map_only(Tensor, OnGpu, result)
    return return_and_correct_aliasing(operator, args, kwargs, result) if ours else result


def convolve(operator: Any, args: Any) -> Any:
    """A convolution or its gradients, computed in the layout (N, C, H, W).

    Gradients (of images and weights, the second and third argument) are laid out as what they
    belong to, or the engine would make copies of them that are on the CPU.
    """
    result = operator(*tree_map_only(Tensor, in_rows, args))
    if operator is aten.convolution.default:
        return result
    laid_out = [
        None if gradient is None else torch.empty_like(like).copy_(gradient)
        for gradient, like in zip(result[:2], args[1:3], strict=True)
    ]
    return (*laid_out, result[2])


def in_rows(tensor: Tensor) -> Tensor:
    """A copy without any trace of another layout, which `contiguous` leaves where both are one."""
    return tensor.clone(memory_format=torch.contiguous_format)


def check_devices(operator: Any, args: Any, flat: list[Any]) -> None:
    """Fail as a GPU does if a tensor that is more than a number lies elsewhere."""
    if operator in COPIES or torch._C._current_autograd_node() is not None:
        return  # the engine, whose zeros are on the CPU, adds up what the forward pass has checked
    if operator in INDEXING:
        flat = tree_flatten((args[0], args[2:]))[0]
        if not isinstance(args[0], OnGpu):
            raise RuntimeError(f"{operator}: indices on the GPU into a tensor on the CPU")
    for value in flat:
        if isinstance(value, Tensor) and not isinstance(value, OnGpu) and value.dim() > 0:
            raise RuntimeError(
                f"{operator}: expected all tensors to be on the same device, found at least two, "
                f"cuda and {value.device}: one of shape {tuple(value.shape)}"
            )


@contextmanager
def any_gpu() -> Iterator[torch.device]:
    """Within, there is a GPU: a pretended one where there is no other."""
    if torch.cuda.is_available():
        yield GPU
    else:
        with pretended_gpu() as device:
            yield device


@contextmanager
def pretended_gpu() -> Iterator[torch.device]:
    """Within, "cuda" is a device like any other. Only where there is none."""
    replaced = {
        "_lazy_init": lambda: None,
        "get_device_name": lambda *_: "a pretended GPU",
        "get_device_capability": lambda *_: (8, 0),
        "synchronize": lambda *_: None,
        "reset_peak_memory_stats": lambda *_: None,
        "max_memory_allocated": lambda *_: 0,
    }
    on_cpu = partial(torch.autocast, "cpu")
    with (
        mock.patch.multiple(torch.cuda, **replaced),
        mock.patch.object(device, "gpu_count", return_value=1),
        mock.patch.object(torch, "autocast", lambda _device, *args, **kw: on_cpu(*args, **kw)),
        mock.patch.object(torch, "Generator", Generator),
        Asking(),
        Pretending(),
    ):
        swap = torch.__future__.get_swap_module_params_on_conversion()
        torch.__future__.set_swap_module_params_on_conversion(True)
        try:
            yield GPU
        finally:
            torch.__future__.set_swap_module_params_on_conversion(swap)
