"""Import first: this checkout's package, also on a machine with only torch and numpy.

What checks params.yaml (pydantic, ruamel.yaml) is not needed to time a step. Where it is missing,
stand-ins take its place: sections of parameters that keep what they are given, unchecked.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))


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
