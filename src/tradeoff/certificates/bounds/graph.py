"""A network as a graph of affine maps, sums and ReLUs: what bounds are computed of.

The weights are the network's own, so that bounds have gradients by them. BatchNorm is the fixed
affine map that it is in eval mode. Layers without bounds are refused with their names.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from tradeoff.networks.preprocess import Preprocess

ADDITIONS = (operator.add, operator.iadd, torch.add)
KNOWN = "linear, convolution, ReLU, BatchNorm, average pooling, flattening and sums"


class NoBounds(Exception):
    """No bounds are known of a layer; says which one and what is known."""


@dataclass(frozen=True)
class Linear:
    """h -> W h + b."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, value: Tensor) -> Tensor:
        return F.linear(value, self.weight, self.bias)

    def linear(self, value: Tensor) -> Tensor:
        """The map without its bias."""
        return F.linear(value, self.weight)

    def absolute(self, value: Tensor) -> Tensor:
        """The map of the absolute weights, without bias."""
        return F.linear(value, self.weight.abs())

    def transposed(self, rows: Tensor, shape: torch.Size) -> Tensor:
        """The transposed map: functionals of the output to those of the input."""
        return rows @ self.weight


@dataclass(frozen=True)
class Convolution:
    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    def __call__(self, value: Tensor) -> Tensor:
        return self._convolve(value, self.weight, self.bias)

    def linear(self, value: Tensor) -> Tensor:
        return self._convolve(value, self.weight, None)

    def absolute(self, value: Tensor) -> Tensor:
        return self._convolve(value, self.weight.abs(), None)

    def _convolve(self, value: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(value, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def transposed(self, rows: Tensor, shape: torch.Size) -> Tensor:
        # Pixels at the far edge that no window reaches have no weight.
        missing = [
            side - ((out - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1)
            for side, out, stride, padding, dilation, kernel in zip(
                shape[-2:], rows.shape[-2:], self.stride, self.padding, self.dilation,
                self.weight.shape[-2:], strict=True,
            )
        ]  # fmt: skip
        return F.conv_transpose2d(
            rows, self.weight, None, self.stride, self.padding, missing, self.groups, self.dilation
        )

    @property
    def is_square(self) -> bool:
        """Whether patches can be carried back through it (`rows.Patches`)."""
        squares = (self.weight.shape[-2:], self.stride, self.padding)
        plain = self.groups == 1 and self.dilation == (1, 1)
        return plain and all(first == second for first, second in squares)


@dataclass(frozen=True)
class Scaling:
    """h -> g h + b with numbers for each channel: BatchNorm in eval mode."""

    scale: Tensor
    shift: Tensor

    def __call__(self, value: Tensor) -> Tensor:
        return self.scale * value + self.shift

    def linear(self, value: Tensor) -> Tensor:
        return self.scale * value

    def absolute(self, value: Tensor) -> Tensor:
        return self.scale.abs() * value

    def transposed(self, rows: Tensor, shape: torch.Size) -> Tensor:
        return self.scale * rows


@dataclass(frozen=True)
class Fixed:
    """A linear map without weights whose coefficients are 0 or more: flattening, averages."""

    function: Callable[[Tensor], Tensor]

    def __call__(self, value: Tensor) -> Tensor:
        return self.function(value)

    linear = absolute = __call__

    def transposed(self, rows: Tensor, shape: torch.Size) -> Tensor:
        with torch.enable_grad():
            point = rows.new_zeros(len(rows), *shape, requires_grad=True)
            (found,) = torch.autograd.grad(self.function(point), point, rows, create_graph=True)
        return found


@dataclass(frozen=True)
class Identity:
    """The sum of a node's inputs, as it is."""

    def __call__(self, value: Tensor) -> Tensor:
        return value

    linear = absolute = __call__

    def transposed(self, rows: Tensor, shape: torch.Size) -> Tensor:
        return rows


@dataclass(frozen=True)
class Rectifier:
    """h -> max(h, 0)."""

    def __call__(self, value: Tensor) -> Tensor:
        return F.relu(value)


@dataclass(frozen=True)
class Maximum:
    """Max-pooling: it keeps intervals in order, but has no slope of its own in the dual network."""

    function: Callable[[Tensor], Tensor]
    name: str

    def __call__(self, value: Tensor) -> Tensor:
        return self.function(value)


Affine = Linear | Convolution | Scaling | Fixed | Identity
Layer = Affine | Rectifier | Maximum


@dataclass(frozen=True)
class Node:
    """A layer applied to the sum of the values at earlier places.

    Attributes:
        shape: of the value of one image.
    """

    layer: Layer
    inputs: tuple[int, ...]
    shape: torch.Size

    @property
    def size(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order. Place 0 is the image after preprocessing; the last, the logits.

    Attributes:
        preprocess: what is done to images before; it maps a box to a box.
    """

    nodes: tuple[Node, ...]
    preprocess: Callable[[Tensor], Tensor]

    def logits(self, images: Tensor) -> Tensor:
        """What the network computes."""
        values = [self.preprocess(images)]
        for node in self.nodes[1:]:
            values.append(node.layer(sum_of([values[place] for place in node.inputs])))
        return values[-1]


def sum_of(values: list[Tensor]) -> Tensor:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        leaf = isinstance(m, Preprocess | nn.Conv2d | nn.BatchNorm2d | nn.MaxPool2d)
        return leaf or super().is_leaf_module(m, module_qualified_name)


def read(network: nn.Module, images: Tensor) -> Graph:
    """The graph of a network for images such as these, in their precision.

    Raises:
        NoBounds: it has a layer without bounds, or BatchNorm or dropout in train mode.
    """
    try:
        traced = _Tracer().trace(network)
    except Exception as error:  # whatever a model's class does with a stand-in for its input
        kind = type(network).__name__
        raise NoBounds(f"{kind} cannot be read as a graph of layers: {error}") from None
    reader = _Reader(network, images)
    for step in traced.nodes:
        reader.read(step)
    graph = Graph(tuple(reader.nodes), reader.preprocess)
    _check(network, reader.values[-1], images)
    return graph


@torch.no_grad()
def _check(network: nn.Module, logits: Tensor, images: Tensor) -> None:
    """Compare with the network itself: code that changes a value in place reads as if it did not.

    Raises:
        NoBounds: the graph computes something else.
    """
    weight = next(network.parameters())
    expected = network(images[:1].to(weight.dtype)).to(logits.dtype)
    scale = expected.abs().max()
    if logits.shape != expected.shape or not (logits - expected).abs().max() <= 1e-3 * scale:
        raise NoBounds(
            f"{type(network).__name__}, read as a graph of layers, computes other logits"
        )


class _Reader:
    """Translates the steps of a traced network one by one."""

    def __init__(self, network: nn.Module, images: Tensor) -> None:
        self.network, self.dtype = network, images.dtype
        self.preprocess: Callable[[Tensor], Tensor] = Identity()
        self.values = [images[:1].detach()]  # of one image, for the shapes
        self.nodes = [Node(Identity(), (), images.shape[1:])]
        self.places: dict[fx.Node, int] = {}

    def read(self, step: fx.Node) -> None:
        if step.op == "output":
            last = self.places[step.all_input_nodes[0]]
            del self.nodes[last + 1 :], self.values[last + 1 :]
            return
        if step.op == "placeholder":
            self.places[step] = 0
            return
        sources = step.all_input_nodes
        given = tuple(self.places[source] for source in step.args if isinstance(source, fx.Node))
        if len(given) < len(sources) or step.op == "get_attr":
            raise NoBounds(_refusal(_name(step), "operation"))
        if step.op == "call_module":
            module = self.network.get_submodule(str(step.target))
            if isinstance(module, Preprocess):
                if given != (0,) or len(self.nodes) > 1:
                    raise NoBounds("preprocessing has bounds only as the first layer")
                self._begin(module, step)
                return
            layer = self._module(module, str(step.target))
        elif step.target in ADDITIONS and len(given) == 2 and not step.kwargs:
            layer = Identity()
        else:
            layer = _operation(step)
        self._append(layer, given, step)

    def _begin(self, module: Preprocess, step: fx.Node) -> None:
        self.preprocess = module
        self.values = [module(self.values[0])]
        self.nodes = [Node(Identity(), (), self.values[0].shape[1:])]
        self.places[step] = 0

    def _append(self, layer: Layer, inputs: tuple[int, ...], step: fx.Node) -> None:
        with torch.no_grad():
            value = layer(sum_of([self.values[place] for place in inputs]))
        self.places[step] = len(self.nodes)
        self.nodes.append(Node(layer, inputs, value.shape[1:]))
        self.values.append(value)

    def _module(self, module: nn.Module, name: str) -> Layer:
        match module:
            case nn.Linear():
                return Linear(self._cast(module.weight), self._cast_or_none(module.bias))
            case nn.Conv2d(padding_mode="zeros", padding=(down, across)):
                return Convolution(
                    self._cast(module.weight), self._cast_or_none(module.bias),
                    _pair(module.stride), (down, across), _pair(module.dilation), module.groups,
                )  # fmt: skip
            case nn.BatchNorm2d(running_mean=Tensor(), affine=True, training=False):
                return self._batch_norm(module)
            case nn.ReLU():
                return Rectifier()
            case nn.MaxPool2d():
                return Maximum(module, name)
            case nn.Flatten() | nn.AvgPool2d() | nn.AdaptiveAvgPool2d():
                return Fixed(module)
            case nn.Identity() | nn.Dropout(training=False):
                return Identity()
        mode = " in train mode" if isinstance(module, nn.BatchNorm2d | nn.Dropout) else ""
        raise NoBounds(_refusal(f"{name} ({type(module).__name__}{mode})", "layer"))

    def _batch_norm(self, module: nn.BatchNorm2d) -> Scaling:
        assert module.running_mean is not None and module.running_var is not None
        scale = self._cast(module.weight) / (self._cast(module.running_var) + module.eps).sqrt()
        shift = self._cast(module.bias) - scale * self._cast(module.running_mean)
        return Scaling(scale.view(-1, 1, 1), shift.view(-1, 1, 1))

    def _cast(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.dtype)

    def _cast_or_none(self, tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.to(self.dtype)


def _operation(step: fx.Node) -> Layer:
    """A function, or a method of a tensor, that is called in the network's own code."""
    name = _name(step)
    extra, named = step.args[1:], step.kwargs
    if name in ("relu", "relu_"):
        return Rectifier()
    if name in ("flatten", "mean", "avg_pool2d", "adaptive_avg_pool2d"):
        function: Any = getattr(Tensor, name) if step.op == "call_method" else step.target
        return Fixed(lambda value: function(value, *extra, **named))
    if "max_pool2d" in name:
        pool: Any = step.target
        return Maximum(lambda value: pool(value, *extra, **named), name)
    raise NoBounds(_refusal(name, "operation"))


def _name(step: fx.Node) -> str:
    return step.target if isinstance(step.target, str) else step.target.__name__


def _refusal(what: str, kind: str) -> str:
    return f"no bounds are known of the {kind} {what}; they are of {KNOWN}"


def _pair(value: tuple[int, ...]) -> tuple[int, int]:
    first, second = value
    return first, second
