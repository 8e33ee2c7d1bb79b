"""What the benchmarks share. Import it first: it finds this checkout's package, also on a machine
with only torch and numpy.

What checks params.yaml (pydantic, ruamel.yaml) is not needed to time a step. Where it is missing,
stand-ins take its place: sections of parameters that keep what they are given, unchecked.
"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))


class Unchecked:
    """Keeps its keyword arguments as attributes."""

    model_fields: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, *_: Any, **values: Any) -> None:
        self.__dict__.update(values)


class StandIn(ModuleType):
    """A module of which every name is a class or decorator that does nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "BaseModel":
            return Unchecked
        if name == "create_model":
            return lambda title, **_: type(title, (Unchecked,), {})
        if name.startswith("Positive"):
            return float
        if name.endswith("validator"):
            return lambda *_, **__: lambda function: function
        return type(name, (Exception,), {"__init__": lambda self, *_, **__: None})


if importlib.util.find_spec("pydantic") is None:
    for missing in ("pydantic", "pydantic_core", "ruamel", "ruamel.yaml", "ruamel.yaml.error"):
        sys.modules[missing] = StandIn(missing)


def parser(description: str | None, **defaults: Any) -> argparse.ArgumentParser:
    """Options by their defaults: a number, a text, a list of numbers, or False for a switch."""
    result = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    for name, default in defaults.items():
        option = f"--{name.replace('_', '-')}"
        if default is False:
            result.add_argument(option, action="store_true")
        elif isinstance(default, list):
            result.add_argument(option, type=type(default[0]), nargs="+", default=default)
        else:
            result.add_argument(option, type=type(default), default=default)
    return result


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """How long a call takes, on a GPU until its kernels are done."""
    synchronize(device)
    began = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - began


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def hardware(device: torch.device, threads: int) -> str:
    return torch.cuda.get_device_name() if device.type == "cuda" else f"{threads} threads"


def made_up(count: int, channels: int, size: int) -> tuple[Tensor, Tensor]:
    """Pixels (count, channels, size, size) uint8 of ten classes, each a pattern under noise, and
    labels; the same in every call."""
    draws = torch.Generator().manual_seed(0)
    patterns = torch.rand(10, channels, size, size, generator=draws)
    labels = torch.arange(count) % 10
    noise = torch.rand(count, channels, size, size, generator=draws)
    return (255 * (0.5 * patterns[labels] + 0.5 * noise)).to(torch.uint8), labels
