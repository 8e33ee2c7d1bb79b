"""What a table is, with every number already printed; HTML and LaTeX only lay it out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_lowercase

from tradeoff.core.study import Study
from tradeoff.reporting.estimates import PERCENT, Estimate, Scale, rank
from tradeoff.reporting.labels import Labels
from tradeoff.reporting.results import Results


@dataclass(frozen=True)
class Number:
    """A table's entry: "85.3", its "0.4", or two empty texts where nothing is known.

    Attributes:
        best: whether it stands out, in bold.
        extra: what follows in small print.
        second: whether it is the best of those that are not `best`, underlined.
        target: the id of the section that it summarises.
    """

    mean: str = ""
    sd: str = ""
    best: bool = False
    extra: str = ""
    second: bool = False
    target: str = ""


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
    """A row; `note` has the letters of its notes below the table; a `minor` one is about the
    others and stays below them."""

    header: str
    numbers: tuple[Number, ...]
    note: str = ""
    minor: bool = False


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
        higher_is_better: which direction is better; None: neither, or no test says who is best.
        spread: whether the standard deviation is printed.
        metric: under which name Results knows what is resolved and detectable; needed where one
            direction is better.
    """

    header: str
    of: Callable[[str, str], Estimate | None]
    higher_is_better: bool | None
    spread: bool = True
    scale: Scale = PERCENT
    metric: str = ""


Remarks = Mapping[tuple[str, str], Sequence[str]]
"""Texts of notes on a (defense, architecture)."""


def defense_table(
    key: str,
    caption: str,
    groups: Sequence[tuple[str, Sequence[Measure]]],
    remarks: Remarks,
    study: Study,
    results: Results,
    labels: Labels,
) -> Table:
    """A table with a block for each architecture and a row for each defense, of printed numbers.

    Below each block stands what is detectable, where that is known of any column.
    """
    blocks: list[Block] = []
    notes: list[Note] = []
    for architecture in study.axes.architectures:
        columns, limits = [], []
        for _, measures in groups:
            for one in measures:
                numbers, limit = contest(architecture, one, study, results, labels)
                columns.append(numbers)
                limits.append(limit)
        rows = []
        for index, defense in enumerate(study.axes.defenses):
            texts = remarks.get((defense, architecture), ())
            new = [Note(nth_letter(len(notes) + place), text) for place, text in enumerate(texts)]
            notes += new
            numbers_of = tuple(column[index] for column in columns)
            marks = ", ".join(note.letter for note in new)
            rows.append(Row(labels.name("defenses", defense), numbers_of, marks))
        if any(limits):
            row = tuple(Number(limit) for limit in limits)
            rows.append(Row(labels("words.detectable"), row, minor=True))
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


def contest(
    architecture: str, measure: Measure, study: Study, results: Results, labels: Labels
) -> tuple[list[Number], str]:
    """Every defense's number, the best and the second marked; and as text the range of what is
    detectable between the best and the others, empty if that is not known."""
    defenses = study.axes.defenses
    estimates = [measure.of(defense, architecture) for defense in defenses]

    def resolved(one: int, other: int) -> bool | None:
        return results.resolved(architecture, measure.metric, defenses[one], defenses[other])

    ranks = [0] * len(estimates)
    if measure.higher_is_better is not None:
        ranks = rank(estimates, measure.higher_is_better, resolved, measure.scale)
    numbers = [
        _number(one, ranks[index], cells_id(architecture, defense, study), measure, labels)
        for index, (one, defense) in enumerate(zip(estimates, defenses, strict=True))
    ]
    known = {place: one for place, one in enumerate(estimates) if one is not None}
    if measure.higher_is_better is None or len(known) < 2:
        return numbers, ""
    sign = 1 if measure.higher_is_better else -1
    lead = max(known, key=lambda place: sign * known[place].mean)
    limits = [
        results.detectable_difference(architecture, measure.metric, defenses[lead], defenses[place])
        for place in known if place != lead
    ]  # fmt: skip
    there = [labels.printed(limit, measure.scale) for limit in sorted(filter(None, limits))]
    return numbers, "–".join(dict.fromkeys([there[0], there[-1]])) if there else ""  # noqa: RUF001


def cells_id(architecture: str, defense: str, study: Study) -> str:
    """The id of the section on the cells of an architecture and a defense."""
    axes = study.axes
    return f"cells-{axes.architectures.index(architecture)}-{axes.defenses.index(defense)}"


def _number(
    one: Estimate | None, place: int, target: str, measure: Measure, labels: Labels
) -> Number:
    if one is None:
        return Number()
    mean = labels.printed(one.mean, measure.scale)
    known = measure.spread and one.sd is not None
    sd = labels.printed(one.sd or 0.0, measure.scale) if known else ""
    extra = labels("metrics.left_out", share=labels.percent(one.left_out)) if one.left_out else ""
    return Number(mean, sd, best=place == 1, second=place == 2, target=target, extra=extra)


def nth_letter(index: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    more, last = divmod(index, len(ascii_lowercase))
    return (nth_letter(more - 1) if more else "") + ascii_lowercase[last]
