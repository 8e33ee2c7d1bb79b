"""The words of a report: one file per language, and names for what params.yaml names."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tradeoff.core.schema import dotted, read_yaml
from tradeoff.core.settings import StatisticsSettings
from tradeoff.reporting.estimates import PERCENT, Estimate, Scale, localized, rounded
from tradeoff.reporting.tellings import words

# A language's name for itself, and how babel loads it. Spanish: "Tabla", not "Cuadro", and no
# characters that become commands.
LANGUAGES = {
    "en": ("English", "english"),
    "es": ("Español", "spanish,es-tabla,es-noshorthands"),
}

# A letter with a letter below it, in a text about formulas.
SUBSCRIPT = re.compile(r"\b([A-Za-z])_([a-z])\b")


class BadLabels(Exception):
    """A label file lacks a key or uses an unknown placeholder; the message names both."""


class Captioned:
    """A table or figure. The first line of its caption stands at it, the others in the text."""

    caption: str

    @property
    def short_caption(self) -> str:
        return self.caption.partition("\n")[0]

    @property
    def definitions(self) -> str:
        """What its reader must know beyond the short caption; may be empty."""
        return self.caption.partition("\n")[2]


@dataclass(frozen=True)
class Labels:
    """The texts of one language by dotted key, such as "tables.main.caption"."""

    file: str
    texts: dict[str, str]

    def __call__(self, key: str, **values: object) -> str:
        """The text of a key with its {placeholders} filled in.

        Raises:
            BadLabels: the file has no such key, or the text asks for a value that is not given.
        """
        if key not in self.texts:
            raise BadLabels(f"{self.file}: {key}: is missing")
        try:
            return self.texts[key].format(**values)
        except (KeyError, IndexError, ValueError) as error:
            raise BadLabels(f"{self.file}: {key}: cannot be filled in: {error!r}") from None

    def name(self, kind: str, raw: str) -> str:
        """What to call a defense, an attack, a knob; its own name where the file knows none.

        A new defense or a suite's freely named attack needs no label to appear in a report.
        """
        return self.texts.get(f"{kind}.{raw}", raw)

    @property
    def mark(self) -> str:
        """The decimal mark."""
        return self("decimal_mark")

    @property
    def language(self) -> str:
        """The code in the file's name, labels.LANGUAGE.yaml."""
        return self.file.split(".")[1]

    def percent(self, value: float) -> str:
        """0.8534 as "85.3"."""
        return self.formatted(value, PERCENT)

    def formatted(self, value: float, scale: Scale) -> str:
        """A value on its scale, with the language's decimal mark and a true minus sign."""
        return localized(rounded(value, scale), self.mark)

    def points(self, value: float) -> str:
        """A difference of rates in percentage points, with its sign: "+1.2"."""
        text = self.percent(value)
        return f"+{text}" if value > 0 and text != self.percent(0) else text

    def number(self, value: object) -> str:
        """A setting's value: numbers with the decimal mark, names as they are."""
        if isinstance(value, bool):
            return self("yes" if value else "no")
        if isinstance(value, float):
            return localized(f"{value:g}", self.mark)
        if isinstance(value, list | tuple):
            return self.enumerate([self.number(item) for item in value]) or self("none")
        return self("none") if value is None else str(value)

    def counts(self, values: Iterable[float]) -> str:
        """ "100 and 360": the distinct counts among values, those that are known."""
        distinct = sorted({int(value) for value in values if value == value})
        return self.enumerate([str(count) for count in distinct]) or "0"

    def seeds(self, count: int) -> str:
        """ "1 seed" or "3 seeds"."""
        return self("words.one_seed") if count == 1 else self("words.many_seeds", count=count)

    def levels(self, statistics: StatisticsSettings) -> dict[str, str]:
        """The level of intervals and the alpha and power of tests, in percent."""
        return {name: self.number(100 * value) for name, value in statistics.model_dump().items()}

    def estimate(self, value: Estimate) -> str:
        """ "85.3 ± 0.4 %", for sentences."""
        number = self.percent(value.mean)
        if value.sd is not None:
            number += f" ± {self.percent(value.sd)}"
        text = self("sentences.value", number=number)
        # One thing, which must not be broken between two lines.
        return text.replace(" ", "\N{NO-BREAK SPACE}")

    def enumerate(self, items: list[str]) -> str:
        """ "a, b and c"."""
        if len(items) < 2:
            return "".join(items)
        return self("sentences.and", first=", ".join(items[:-1]), last=items[-1])


def load_labels(language: str, folder: Path) -> Labels:
    """Read labels.LANGUAGE.yaml, and what defenses are called.

    Raises:
        BadLabels: the file is missing or holds something other than texts in sections.
    """
    path = folder / f"labels.{language}.yaml"
    raw = read_yaml(path, BadLabels)
    texts = dotted(raw) if isinstance(raw, dict) else {"(top level)": raw}
    for key, value in texts.items():
        if not isinstance(value, str):
            raise BadLabels(f"{path.name}: {key}: is {value!r}; it should be a text")
    return Labels(path.name, texts | words(language))
