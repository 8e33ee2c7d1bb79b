"""What a table is, with every number already printed; HTML and LaTeX only lay it out."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_lowercase

from tradeoff.reporting.estimates import PERCENT, Estimate, Scale, rank
from tradeoff.reporting.labels import Captioned
from tradeoff.reporting.view import Place, View

MOST_DEFENSES_ACROSS = 10


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


def ungrouped(headers: Iterable[str], spread: bool = False) -> tuple[Group, ...]:
    """Columns without a common header."""
    return (Group("", tuple(Column(header, spread) for header in headers)),)


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
class Table(Captioned):
    key: str
    caption: str
    corner: str
    groups: tuple[Group, ...]
    blocks: tuple[Block, ...]
    notes: tuple[Note, ...] = ()

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
        estimates: its value for each place that has one.
        higher_is_better: which direction is better; None: neither, or no test says who is best.
        spread: whether the standard deviation is printed.
        metric: under which name Results knows what is resolved and detectable; needed where one
            direction is better.
    """

    header: str
    estimates: Mapping[Place, Estimate]
    higher_is_better: bool | None = None
    spread: bool = True
    scale: Scale = PERCENT
    metric: str = ""


Remarks = Mapping[Place, Sequence[str]]
"""Texts of notes on a place."""


def defense_table(
    view: View,
    key: str,
    caption: str,
    groups: Sequence[tuple[str, Sequence[Measure]]],
    remarks: Remarks,
    only: Collection[str] | None = None,
) -> Table:
    """A table with a block for each architecture and a row for each defense, of printed numbers.

    Below each block stands what is detectable, where that is known of any column.

    Args:
        only: the defenses that have a row; None: all.
    """
    blocks: list[Block] = []
    notes: list[Note] = []
    for architecture in view.architectures:
        ranked = [ranked_column(view, architecture, measure)
                  for _, measures in groups for measure in measures]  # fmt: skip
        rows = []
        for index, defense in enumerate(view.defenses):
            if only is not None and defense not in only:
                continue
            texts = remarks.get((architecture, defense), ())
            new = [Note(nth_letter(len(notes) + place), text) for place, text in enumerate(texts)]
            notes += new
            numbers = tuple(column[index] for column, _ in ranked)
            rows.append(Row(view.name(defense), numbers, ", ".join(note.letter for note in new)))
        if any(limit for _, limit in ranked):
            limits = tuple(Number(limit) for _, limit in ranked)
            rows.append(Row(view("words.detectable"), limits, minor=True))
        blocks.append(Block(view.network(architecture), tuple(rows)))
    columns = tuple(
        Group(header, tuple(Column(measure.header, measure.spread) for measure in measures))
        for header, measures in groups
    )
    return Table(key, caption, view("words.defense"), columns, tuple(blocks), tuple(notes))


def ranked_column(view: View, architecture: str, measure: Measure) -> tuple[list[Number], str]:
    """Every defense's number, the best and the second marked; and as text the range of what is
    detectable between the best and the others, empty if that is not known."""
    defenses, metric, results = view.defenses, measure.metric, view.results
    estimates = [measure.estimates.get((architecture, defense)) for defense in defenses]
    better = measure.higher_is_better

    def resolved(first: int, second: int) -> bool | None:
        return results.resolved(architecture, metric, defenses[first], defenses[second])

    ranks = [0] * len(estimates)
    if better is not None:
        ranks = rank(estimates, better, resolved, measure.scale)
    numbers = [
        _number(view, measure, estimate, ranks[index], cells_id(view, (architecture, defense)))
        for index, (estimate, defense) in enumerate(zip(estimates, defenses, strict=True))
    ]
    evaluated = {name: value for name, value in zip(defenses, estimates, strict=True) if value}
    if better is None or len(evaluated) < 2:
        return numbers, ""
    lead = max(evaluated, key=lambda name: (1 if better else -1) * evaluated[name].mean)
    limits = [results.detectable_difference(architecture, metric, lead, other)
              for other in evaluated if other != lead]  # fmt: skip
    texts = [view.labels.formatted(limit, measure.scale) for limit in sorted(filter(None, limits))]
    return numbers, "–".join(dict.fromkeys([texts[0], texts[-1]])) if texts else ""  # noqa: RUF001


def cells_id(view: View, place: Place) -> str:
    """The id of the section on the cells of a place."""
    architecture, defense = place
    return f"cells-{view.architectures.index(architecture)}-{view.defenses.index(defense)}"


def _number(
    view: View, measure: Measure, estimate: Estimate | None, rank_of: int, target: str
) -> Number:
    if estimate is None:
        return Number()
    labels, share = view.labels, estimate.left_out
    has_sd = measure.spread and estimate.sd is not None
    return Number(
        labels.formatted(estimate.mean, measure.scale),
        labels.formatted(estimate.sd or 0.0, measure.scale) if has_sd else "",
        best=rank_of == 1,
        second=rank_of == 2,
        target=target,
        extra=labels("metrics.left_out", share=labels.percent(share)) if share else "",
    )


def wide_or_tall(table: Table, corner: str) -> Table:
    """A table of one group whose columns are defenses, or if these are too many for a page, one
    whose rows are."""
    if len(table.columns) <= MOST_DEFENSES_ACROSS:
        return table
    spread = any(column.spread for column in table.columns)
    blocks = [
        Block(block.header, tuple(
            Row(column.header, tuple(row.numbers[place] for row in block.rows),
                minor=spread and not column.spread)
            for place, column in enumerate(table.columns)
        ))
        for block in table.blocks
    ]  # fmt: skip
    groups = ungrouped((row.header for row in table.blocks[0].rows), spread=True)
    return Table(table.key, table.caption, corner, groups, tuple(blocks), table.notes)


def nth_letter(index: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    more, last = divmod(index, len(ascii_lowercase))
    return (nth_letter(more - 1) if more else "") + ascii_lowercase[last]
