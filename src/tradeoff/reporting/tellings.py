"""What reports say of a defense: defenses/NAME.yaml beside its module, on which nothing else
depends. A defense without that file goes by its own name."""

from functools import cache
from pathlib import Path

from pydantic import Field

from tradeoff.core.plugins import PACKAGE
from tradeoff.core.schema import Section, read_yaml, validate

FOLDER = PACKAGE / "defenses"


class Telling(Section):
    """What is said of a defense; texts by language.

    Attributes:
        title: its name, one text if it is the same in all languages.
        like: the defense of which it is a variant: what is not said here is said there.
        family: defenses of a family share a colour; without one it is a family of its own.
        equation: the formulas of its objective, in LaTeX.
        symbols: a sentence on what the formulas' symbols mean.
        source: a key of references.bib.
        broken: a sentence on who broke it, and how, where that is published.
        words: names of its knobs, of their values and of the terms of its weight lambda.
    """

    title: str | dict[str, str]
    like: str | None = None
    family: str | None = None
    equation: list[str] = Field(default_factory=list)
    symbols: dict[str, str] = Field(default_factory=dict)
    source: str | None = None
    broken: dict[str, str] = Field(default_factory=dict)
    words: dict[str, dict[str, str]] = Field(default_factory=dict)


@cache
def load_tellings(folder: Path = FOLDER) -> dict[str, Telling]:
    """All tellings of a folder, by the name of the defense.

    Raises:
        BadParams: a file is not what it should be; the message names file, key and value.
    """
    return {path.stem: _read(path) for path in sorted(folder.glob("*.yaml"))}


def _read(path: Path) -> Telling:
    telling: Telling = validate(Telling, read_yaml(path), file=path.name)
    if telling.like is None:
        return telling
    root = _read(path.with_stem(telling.like))
    family = {"family": telling.family or root.family or telling.like}
    own = telling.model_dump(exclude_unset=True) | family
    return root.model_copy(update=own)


def words(language: str) -> dict[str, str]:
    """The tellings' texts in a language, by keys like those of label files: "defenses.NAME" and
    "words_of.NAME.WORD"."""
    texts = {}
    for name, telling in load_tellings().items():
        title = telling.title
        texts[f"defenses.{name}"] = title if isinstance(title, str) else title.get(language, name)
        for word, text in telling.words.get(language, {}).items():
            texts[f"words_of.{name}.{word}"] = text
    return texts
