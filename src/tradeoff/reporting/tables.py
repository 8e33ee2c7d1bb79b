"""What a table is, with every number already printed; HTML and LaTeX only lay it out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_lowercase

from tradeoff.core.study import Study
from tradeoff.reporting.estimates import PERCENT, Estimate, Scale, best
from tradeoff.reporting.labels import Labels


@dataclass(frozen=True)
class Number:
    """A table's entry: "85.3", its "0.4", or two empty texts where nothing is known.

    Attributes:
        best: whether it stands out, in bold.
        extra: what follows in small print.
    """

    mean: str = ""
    sd: str = ""
    best: bool = False
    extra: str = ""


@dataclass(frozen=True)
class Column:
    """A column; `spread` tells whether its entries are mean ± sd."""

    header: str
    spread: bool


@dataclass(frozen=True)
class Group:
    """Neighbouring columns under a common header, which may be empty."""

    header: str
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Row:
    """A row; `note` has the letters of its notes below the table."""

    header: str
    numbers: tuple[Number, ...]
    note: str = ""


@dataclass(frozen=True)
class Block:
    """Rows under a common header, which may be empty."""

    header: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Note:
    letter: str
    text: str


@dataclass(frozen=True)
class Table:
    key: str
    caption: str
    corner: str
    groups: tuple[Group, ...]
    blocks: tuple[Block, ...]
    notes: tuple[Note, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        return tuple(column for group in self.groups for column in group.columns)

    @property
    def spread(self) -> bool:
        """Whether any entry has a standard deviation; a single seed has none."""
        return any(
            number.sd for block in self.blocks for row in block.rows for number in row.numbers
        )


@dataclass(frozen=True)
class Measure:
    """A column in the making.

    Attributes:
        of: its value for a defense and an architecture.
        higher_is_better: which direction is better; None: neither.
        spread: whether the standard deviation is printed.
    """

    header: str
    of: Callable[[str, str], Estimate | None]
    higher_is_better: bool | None
    spread: bool = True
    scale: Scale = PERCENT


Remarks = Mapping[tuple[str, str], Sequence[str]]
"""Texts of notes on a (defense, architecture)."""


def defense_table(
    key: str,
    caption: str,
    groups: Sequence[tuple[str, Sequence[Measure]]],
    remarks: Remarks,
    study: Study,
    labels: Labels,
) -> Table:
    """Defenses down, one block for each architecture, and the best sought in each block;
    measures across, under the headers of their groups."""
    notes: list[Note] = []
    blocks = []
    for architecture in study.axes.architectures:
        columns = [
            _column([one.of(name, architecture) for name in study.axes.defenses], one, labels)
            for _, measures in groups
            for one in measures
        ]
        rows = []
        for index, defense in enumerate(study.axes.defenses):
            texts = remarks.get((defense, architecture), ())
            new = [Note(nth_letter(len(notes) + place), text) for place, text in enumerate(texts)]
            notes += new
            numbers = tuple(column[index] for column in columns)
            marks = ", ".join(note.letter for note in new)
            rows.append(Row(labels.name("defenses", defense), numbers, marks))
        blocks.append(Block(labels.name("architectures", architecture), tuple(rows)))
    return Table(
        key,
        caption,
        labels("words.defense"),
        tuple(
            Group(header, tuple(Column(measure.header, measure.spread) for measure in measures))
            for header, measures in groups
        ),
        tuple(blocks),
        tuple(notes),
    )


def _column(estimates: list[Estimate | None], measure: Measure, labels: Labels) -> list[Number]:
    if measure.higher_is_better is None:
        winners = [False] * len(estimates)
    else:
        winners = best(estimates, measure.higher_is_better, measure.scale)
    return [_number(*pair, measure, labels) for pair in zip(estimates, winners, strict=True)]


def _number(one: Estimate | None, winner: bool, measure: Measure, labels: Labels) -> Number:
    if one is None:
        return Number()
    mean = labels.printed(one.mean, measure.scale)
    if one.at_least:
        mean = f"≥\N{NO-BREAK SPACE}{mean}"
    known = measure.spread and one.sd is not None
    return Number(mean, labels.printed(one.sd or 0.0, measure.scale) if known else "", winner)


def nth_letter(index: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    more, last = divmod(index, len(ascii_lowercase))
    return (nth_letter(more - 1) if more else "") + ascii_lowercase[last]
