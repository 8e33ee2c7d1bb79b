"""Precision and compilation of training: speed that its pure functions need not know of."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from tradeoff.core.settings import TrainSettings
from tradeoff.networks.device import has_tensor_cores, matrix_precision

PAYS_FROM = 2000  # steps of training from which compiling, about a minute, is worth its time

# Of the networks, dynamo compiles one for each number of images, with and without gradient, in
# short floats and not. Beyond its limit, 8 for model and twin together, the rest would run
# uncompiled.
VARIANTS = 64


@contextmanager
def precision(name: str, device: torch.device) -> Iterator[None]:
    """One step's forward passes in one of these; parameters and losses stay float32.

    Entered anew for each step: autocast keeps its copies of the weights until it is left.
    """
    if name == "float32":
        yield
    elif name == "tf32":
        with matrix_precision("tf32"):
            yield
    else:
        with torch.autocast(device.type, torch.bfloat16 if name == "bf16" else torch.float16):
            yield


def emulates(name: str, device: torch.device) -> bool:
    """Whether it is a GPU that has no bf16 of its own, such as a T4, and is to train in it."""
    return name == "bf16" and device.type == "cuda" and not has_tensor_cores(device, name)


@contextmanager
def one_batch_size() -> Iterator[None]:
    """cuDNN tries its kernels on every new shape and keeps the fastest.

    In an epoch that pays; in validation, whose batches shrink with each fooled image, it would
    try them anew for every size.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def compiled(
    model: nn.Module,
    frozen: nn.Module,
    settings: TrainSettings,
    steps: int,
    probe: Callable[[nn.Module, nn.Module], None],
) -> tuple[nn.Module, nn.Module, str]:
    """The model and its frozen twin compiled, or themselves where that is not possible.

    Args:
        steps: of the whole training.
        probe: runs one step forward and backward with both, for compiling to happen and to show
            what it cannot do; buffers and gradients are restored here.

    Returns:
        Both networks, and what was done in a word or a sentence.
    """
    if settings.compile == "off":
        return model, frozen, "not compiled"
    device = next(model.parameters()).device
    on_gpu = device.type == "cuda"
    if settings.compile == "auto" and not (on_gpu and steps >= PAYS_FROM):
        return model, frozen, "not compiled: too short, or no GPU"
    if emulates(settings.precision, device):
        # There the compiler leaves networks as they are, and says so in a warning only.
        return model, frozen, "not compiled: this GPU has no bf16"
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    fast: list[nn.Module] = []
    try:
        from torch._dynamo import config  # slow to import, and needed by few cells

        config.recompile_limit = VARIANTS
        for network in (model, frozen):
            fast.append(torch.compile(network, dynamic=False))  # type: ignore[arg-type]
        probe(*fast)
    except Exception as error:  # whatever a compiler raises, there is a way without it
        words = str(error).strip().splitlines() or [""]
        return model, frozen, f"not compiled: {type(error).__name__}: {words[0]}"
    finally:
        model.zero_grad(set_to_none=True)
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    return fast[0], fast[1], "compiled"
