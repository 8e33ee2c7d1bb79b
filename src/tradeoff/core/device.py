"""The machine at hand."""

import os
from typing import Any, TypeVar

import torch
from torch import nn

# What multiplies matrices on a GPU: each has its own switch for TF32.
MATRIX_BACKENDS: tuple[Any, ...] = (
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,  # type: ignore[attr-defined]
)

Model = TypeVar("Model", bound=nn.Module)


def pick_device(threads: int | None = None) -> torch.device:
    """The device named by TRADEOFF_DEVICE, else the first GPU, else the CPU.

    Args:
        threads: CPU threads to use; None for all. The number changes the last bits of results,
            so it is fixed where results must be the same on every machine.
    """
    device = torch.device(
        os.environ.get("TRADEOFF_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    )
    if threads is not None:
        torch.set_num_threads(threads)
    # Evaluation is float32; training asks for less where params.yaml says so.
    for backend in MATRIX_BACKENDS:
        backend.fp32_precision = "ieee"
    return device


def place(model: Model, device: torch.device) -> Model:
    """The model on the device, on a GPU in the channels-last layout that its kernels prefer.

    Not on a CPU: there torch 2.14's channels-last convolutions of few channels corrupt memory.
    """
    if device.type == "cuda":
        model.to(memory_format=torch.channels_last)
    return model.to(device)


def describe(device: torch.device) -> str:
    """The device in words, with CPU threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"
