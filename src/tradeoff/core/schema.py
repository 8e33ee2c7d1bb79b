"""The vocabulary in which params.yaml is described, and how a wrong value is told to a person."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

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

__all__ = ["Fraction", "Literal", "NonNegative", "Number", "Positive", "PositiveInt", "Section"]


class BadParams(Exception):
    """params.yaml cannot be used; the message names the key, the value and what is allowed."""


def dotted(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Values by their place, such as train.epochs; a section without any is a value, {}, so that
    it differs from no section."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        place = f"{before}{name}"
        inner = isinstance(value, Mapping) and value
        found |= dotted(value, f"{place}.") if inner else {place: value}
    return found


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
        raise BadParams("\n".join(_sentence(item, file, at) for item in error.errors())) from None


def _sentence(item: Any, file: str, at: str) -> str:
    place = ".".join([*([at] if at else []), *map(str, item["loc"])]) or "(top level)"
    if item["type"] in ("unknown_key", "unknown_name"):
        return f"{file}: {place}: {item['msg']}"
    if item["type"] == "missing":
        return f"{file}: {place}: is missing"
    # pydantic's own are "Input should ..." and "List should ... after validation, not 0".
    rule = re.sub(r"^[A-Z]\w+ (?=should )| after validation, not \d+$", "", item["msg"])
    return f"{file}: {place}: is {item['input']!r}; it {rule}"
