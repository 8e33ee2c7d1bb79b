"""The vocabulary in which params.yaml is described, and how a wrong value is told to a person."""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

__all__ = ["Fraction", "Literal", "NonNegative", "Number", "Positive", "PositiveInt", "Section"]


class BadParams(Exception):
    """params.yaml cannot be used; the message names the key, the value and what is allowed."""


def read_yaml(path: Path, error: type[Exception] = BadParams) -> Any:
    """What a YAML file holds.

    Raises:
        error: the file is not there, not in UTF-8 or not YAML; the message names it.
    """
    try:
        return YAML(typ="safe").load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise error(f"{path}: not found in {Path.cwd()}; run from the repository") from None
    except UnicodeDecodeError as wrong:
        line = wrong.object.count(b"\n", 0, wrong.start) + 1
        raise error(f"{path.name}, line {line}: is not in UTF-8; save the file so") from None
    except (YAMLError, ValueError) as wrong:  # a date such as 2024-13-45 is a ValueError
        raise error(f"{path.name}: is not readable as YAML: {wrong}") from None


def dotted(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Values by their place, such as train.epochs; a section without any is a value, {}, so that
    it differs from no section."""
    values: dict[str, Any] = {}
    for name, value in settings.items():
        place = f"{before}{name}"
        inner = isinstance(value, Mapping) and value
        values |= dotted(value, f"{place}.") if inner else {place: value}
    return values


def _read_quotient(value: object) -> object:
    """8/255, as the literature writes a radius, is a number too."""
    if isinstance(value, str):
        digits = r"(\d+(?:\.\d+)?)"
        match = re.fullmatch(rf"\s*{digits}\s*/\s*{digits}\s*", value)
        if not match or float(match[2]) == 0:
            raise PydanticCustomError("number", "should be a number or a quotient such as 8/255")
        return float(match[1]) / float(match[2])
    return value


Number = Annotated[float, BeforeValidator(_read_quotient)]
Positive = Annotated[Number, Field(gt=0)]
NonNegative = Annotated[Number, Field(ge=0)]
Fraction = Annotated[Number, Field(ge=0, le=1)]


class Section(BaseModel):
    """A part of params.yaml: every key is named here, every key is required unless it has a
    default, nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _keys_are_known(cls, value: object) -> object:
        if not isinstance(value, dict):
            raise PydanticCustomError(
                "section",
                "should be a section with keys {keys}",
                {"keys": ", ".join(cls.model_fields) or "(none: write {})"},
            )
        for key in value:
            if key not in cls.model_fields:
                raise PydanticCustomError(
                    "unknown_key",
                    "{message}",
                    {"message": unknown(str(key), cls.model_fields), "key": str(key)},
                )
        return value


def unknown(name: str, allowed: Iterable[str]) -> str:
    """What to say of a name that is not among the allowed ones."""
    names = list(allowed)
    near = difflib.get_close_matches(name, names, 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{name!r} is not known; allowed: {', '.join(names) or '(nothing)'}{hint}"


def validate(model: type[BaseModel], value: object, *, file: str, at: str = "") -> Any:
    """`value` as an instance of `model`.

    Raises:
        BadParams: one line for each wrong value, with the file and the dotted key.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        lines = [_sentence(item, model, file, at) for item in error.errors()]
        raise BadParams("\n".join(lines)) from None


def _sentence(item: Any, model: type[BaseModel], file: str, at: str) -> str:
    place = ".".join([*([at] if at else []), *map(str, item["loc"])]) or "(top level)"
    if item["type"] in ("unknown_key", "unknown_name"):
        return f"{file}: {place}: {item['msg']}"
    if item["type"] == "missing":
        return f"{file}: {place}: is missing"
    # pydantic's own are "Input should ..." and "List should ... after validation, not 0".
    rule = re.sub(r"^[A-Z]\w+ (?=should )| after validation, not \d+$", "", item["msg"])
    rule += " or null" if _may_be_null(model, item["loc"]) else ""
    return f"{file}: {place}: is {item['input']!r}; it {rule}"


def _may_be_null(model: type[BaseModel], place: Iterable[str | int]) -> bool:
    """Whether the key at a place below a section takes null too, which pydantic does not say."""
    *sections, key = place or ("",)
    for name in sections:
        field = model.model_fields.get(str(name))
        kinds = get_args(field.annotation) or (field.annotation,) if field else ()
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not inner:
            return False
        model = inner[0]
    field = model.model_fields.get(str(key))
    return field is not None and type(None) in get_args(field.annotation)
