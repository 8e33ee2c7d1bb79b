"""In which memory layout, and with which kernels, a network computes fastest on a device."""

from typing import TypeVar

import torch
from torch import Tensor, nn

from tradeoff.networks.cpu_kernels import GreyConvolution, use_cpu_kernels
from tradeoff.networks.device import arithmetic_is_portable, has_tensor_cores

Model = TypeVar("Model", bound=nn.Module)

# Floats in the widest vector of a CPU. With channels that do not fill such vectors, torch 2.14's
# channels-last convolutions were seen to corrupt memory.
WHOLE_VECTOR = 16


def training_layout(device: torch.device, precision: str) -> torch.memory_format:
    """In which layout images and networks are trained with a `train.precision`.

    Channels-last where a GPU multiplies on tensor cores. Of float32, cuDNN has its fast kernels of
    3x3 (Winograd's) for contiguous maps. On a CPU `place` looks after the layout.
    """
    if has_tensor_cores(device, precision):
        return torch.channels_last
    return torch.contiguous_format


def place(model: Model, device: torch.device, layout: torch.memory_format | None = None) -> Model:
    """The model on the device, in the layout that its convolutions prefer there.

    On a CPU that is channels-last, but only if all of its convolutions fill whole vectors, the
    first one's images apart. The last one hands its maps on as it would have, since what flattens
    them is often written as a `view`, which takes no others.

    Args:
        layout: on a GPU, see `training_layout`; None: as it is.
    """
    model.to(device)
    if device.type == "cuda":
        return model if layout is None else model.to(memory_format=layout)
    use_cpu_kernels(model)
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    if convolutions and not arithmetic_is_portable() and _fill_vectors(convolutions):
        first, *others = convolutions
        for convolution in others:
            convolution.to(memory_format=torch.channels_last)
        # The first works in the layout of the images, whose few channels do no harm there; that of
        # one channel is both layouts at once.
        if isinstance(first, GreyConvolution):
            first.to(memory_format=torch.channels_last)
        if _channels_last not in first._forward_hooks.values():
            first.register_forward_hook(_channels_last)
            convolutions[-1].register_forward_hook(_contiguous)
    return model


def _fill_vectors(convolutions: list[nn.Conv2d]) -> bool:
    first, *others = convolutions
    counts = [first.out_channels]
    for convolution in others:
        counts += [convolution.in_channels, convolution.out_channels]
    return all(convolution.groups == 1 for convolution in convolutions) and all(
        count % WHOLE_VECTOR == 0 for count in counts
    )


def _channels_last(_layer: nn.Module, _inputs: tuple[Tensor, ...], features: Tensor) -> Tensor:
    return features.contiguous(memory_format=torch.channels_last)


def _contiguous(_layer: nn.Module, _inputs: tuple[Tensor, ...], features: Tensor) -> Tensor:
    return features.contiguous()
