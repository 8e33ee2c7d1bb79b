"""The machine at hand: its devices, the precision of their arithmetic, its memory."""

import ctypes
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

import torch
from threadpoolctl import threadpool_info

from tradeoff.core.settings import Arithmetic
from tradeoff.networks.arithmetic import SWITCHES

# What multiplies matrices on a GPU: each has its own switch for TF32.
MATRIX_BACKENDS: tuple[Any, ...] = (
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,  # type: ignore[attr-defined]
)

# RuntimeErrors that are no fault of what was computed: a GPU's memory is full, a GPU is lost.
DEVICE_FAULTS: tuple[type[Exception], ...] = tuple(
    getattr(torch, name)
    for name in ("OutOfMemoryError", "AcceleratorError")
    if hasattr(torch, name)
)

# Of glibc's mallopt: from which size on free memory at the heap's end goes back to the system, and
# how many blocks may be the system's from the start, as each of more than 32 MB would be.
TRIM_THRESHOLD = (-1, 2**31 - 1)
MMAP_MAX = (-4, 0)

# The compute capability from which NVIDIA's cards multiply such numbers on tensor cores.
TENSOR_CORES = {"tf32": (8, 0), "bf16": (8, 0), "fp16": (7, 0)}


class NoSuchDevice(Exception):
    """TRADEOFF_DEVICE names no device of this machine; says which there are."""


class TooLate(Exception):
    """Arithmetic cannot be portable in this process any more; says what to do."""


class _State:
    portable = False


def arithmetic_is_portable() -> bool:
    """Whether a CPU is to compute the same bytes as any other one: see `pick_device`."""
    return _State.portable


def pick_device(threads: int | None = None, arithmetic: Arithmetic = "native") -> torch.device:
    """The device named by TRADEOFF_DEVICE, else the first GPU, else the CPU.

    Args:
        threads: CPU threads to use; None for all. The number changes the last bits of results,
            so it is fixed where results must be the same on every machine.
        arithmetic: "portable" for the same bytes on every x86-64 processor with AVX2; elsewhere,
            and on GPUs, arithmetic stays native, and so it is recorded.

    Raises:
        NoSuchDevice: TRADEOFF_DEVICE names none that is there.
        TooLate: arithmetic is to be portable, and libraries were loaded otherwise.
    """
    device = torch.device(_checked(os.environ.get("TRADEOFF_DEVICE"), gpu_count()))
    if threads is not None:
        torch.set_num_threads(threads)
    # Evaluation is float32; training asks for less where params.yaml says so.
    for backend in MATRIX_BACKENDS:
        backend.fp32_precision = "ieee"
    keep_freed_memory()
    set_arithmetic(arithmetic if device.type == "cpu" else "native")
    return device


def set_arithmetic(arithmetic: Arithmetic) -> None:
    """Let convolutions from now on be portable or native, if the libraries were told in time.

    Raises:
        TooLate: they were not.
    """
    portable = arithmetic == "portable" and platform.machine() in ("x86_64", "AMD64")
    if portable:
        libraries = [lib for lib in threadpool_info() if lib["internal_api"] == "openblas"]
        told = all(os.environ.get(name) == value for name, value in SWITCHES.items())
        heard = all(lib["architecture"] == "Haswell" for lib in libraries)
        if not (told and heard and torch.backends.cpu.get_cpu_capability() == "AVX2"):
            wanted = " ".join(f"{name}='{value}'" for name, value in SWITCHES.items())
            raise TooLate(
                "portable arithmetic must be chosen before NumPy and torch are loaded, on a "
                "processor with AVX2: the stages do so themselves; a notebook or script is "
                f"started with {wanted}. Or set the data set's `arithmetic` to native"
            )
    _State.portable = portable
    torch.backends.mkldnn.enabled = not portable  # type: ignore[assignment]
    torch.backends.nnpack.set_flags(not portable)


def gpu_count() -> int:
    """How many GPUs torch can use: a driver may list some that it cannot."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _checked(asked: str | None, gpus: int) -> str:
    """The device that is asked for, if there is such a one; the best one if none is."""
    if not asked:
        return "cuda" if gpus else "cpu"
    number = re.fullmatch(r"cuda(?::(\d+))?", asked)
    if asked == "cpu" or (number and int(number[1] or 0) < gpus):
        return asked
    known = ["cpu", *(["cuda"] if gpus else []), *(f"cuda:{index}" for index in range(gpus))]
    seen = "" if gpus else " (torch finds no GPU that it can use)"
    raise NoSuchDevice(f"TRADEOFF_DEVICE is {asked!r}; allowed here: {', '.join(known)}{seen}")


@contextmanager
def matrix_precision(name: Literal["ieee", "tf32"]) -> Iterator[None]:
    """What GPUs multiply matrices in, meanwhile: float32 as IEEE 754 has it, or TF32."""
    before = [backend.fp32_precision for backend in MATRIX_BACKENDS]
    for backend in MATRIX_BACKENDS:
        backend.fp32_precision = name
    try:
        yield
    finally:
        for backend, value in zip(MATRIX_BACKENDS, before, strict=True):
            backend.fp32_precision = value


def has_tensor_cores(device: torch.device, precision: str) -> bool:
    """Whether it is a GPU made for such numbers; others ignore TF32 and emulate bf16."""
    if device.type != "cuda" or precision not in TENSOR_CORES:
        return False
    return torch.cuda.get_device_capability(device) >= TENSOR_CORES[precision]


def keep_freed_memory() -> None:
    """Let glibc keep what is freed; where there is another allocator, nothing happens.

    Each pass of a network frees what the next one asks for. Memory that went back to the system
    meanwhile is mapped anew, page by page: up to half the time of a small network's pass.
    """
    with suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in (TRIM_THRESHOLD, MMAP_MAX):
            mallopt(option, value)


def describe(device: torch.device) -> str:
    """The device in words, with CPU threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"
