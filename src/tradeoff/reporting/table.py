"""What a table is, with every number already printed; HTML and LaTeX only lay it out."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from string import ascii_lowercase
from typing import Any

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
    """A column; `spread` tells whether its entries are mean ± sd, and `group` is the header that it
    has in common with its neighbours, which may be empty."""

    header: str
    spread: bool = False
    group: str = ""


@dataclass(frozen=True)
class Row:
    """A row; `note` has the letters of its notes below the table; a `minor` one is about the
    others and stays below them."""

    header: str
    numbers: Sequence[Number]
    note: str = ""
    minor: bool = False


@dataclass(frozen=True)
class Block:
    """Rows under a common header, which may be empty."""

    header: str
    rows: Sequence[Row]


@dataclass(frozen=True)
class Table(Captioned):
    """A table; `notes` are the texts below it by their letters."""

    key: str
    caption: str
    corner: str
    columns: Sequence[Column]
    blocks: Sequence[Block]
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def groups(self) -> list[tuple[str, list[Column]]]:
        """The columns by the header that they have in common."""
        groups = groupby(self.columns, lambda column: column.group)
        return [(header, list(columns)) for header, columns in groups]

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
        group: the header that it has in common with its neighbours.
    """

    header: str
    estimates: Mapping[Place, Estimate]
    higher_is_better: bool | None = None
    spread: bool = True
    scale: Scale = PERCENT
    metric: str = ""
    group: str = ""


def cells_measure(
    view: View, column: str, higher_is_better: bool | None = None, **options: Any
) -> Measure:
    """A column of the table of cells under its own name."""
    header, options = view(f"metrics.{column}"), {"metric": column} | options
    return Measure(header, view.means(column), higher_is_better, **options)


Remarks = Mapping[Place, Sequence[str]]
"""Texts of notes on a place."""


def defense_table(
    view: View,
    key: str,
    measures: Sequence[Measure],
    remarks: Remarks,
    only: Collection[str] | None = None,
    **values: str,
) -> Table:
    """A table with a block for each architecture and a row for each defense, of printed numbers.

    Below each block stands what is detectable, where that is known of any column.

    Args:
        only: the defenses that have a row; None: all.
        values: what the caption is filled in with.
    """
    blocks: list[Block] = []
    notes: dict[str, str] = {}
    for architecture in view.architectures:
        ranked = [ranked_column(view, architecture, measure) for measure in measures]
        rows = []
        for index, defense in enumerate(view.defenses):
            if only is not None and defense not in only:
                continue
            texts = remarks.get((architecture, defense), ())
            letters = [nth_letter(len(notes) + place) for place in range(len(texts))]
            notes.update(zip(letters, texts, strict=True))
            numbers = [column[index] for column, _ in ranked]
            rows.append(Row(view.name(defense), numbers, ", ".join(letters)))
        if any(limit for _, limit in ranked):
            limits = [Number(limit) for _, limit in ranked]
            rows.append(Row(view("words.detectable"), limits, minor=True))
        blocks.append(Block(view.network(architecture), rows))
    columns = [Column(measure.header, measure.spread, measure.group) for measure in measures]
    return Table(
        key, view(f"tables.{key}", **values), view("words.defense"), columns, blocks, notes
    )


def ranked_column(view: View, architecture: str, measure: Measure) -> tuple[list[Number], str]:
    """Every defense's number, the best and the second marked; and as text the range of what is
    detectable between the best and the others, empty if that is not known."""
    estimates = {
        defense: measure.estimates[architecture, defense]
        for defense in view.defenses if (architecture, defense) in measure.estimates
    }  # fmt: skip
    better, ranks = measure.higher_is_better, dict[str, int]()
    if better is not None:
        resolved = partial(view.results.resolved, architecture, measure.metric)
        ranks = rank(estimates, better, resolved, measure.scale)
    numbers = [
        _number(view, measure, estimates.get(defense), ranks.get(defense),
                cells_id(view, (architecture, defense)))
        for defense in view.defenses
    ]  # fmt: skip
    if better is None or len(estimates) < 2:
        return numbers, ""
    lead = max(estimates, key=lambda name: (1 if better else -1) * estimates[name].mean)
    limits = [view.results.detectable_difference(architecture, measure.metric, lead, other)
              for other in estimates if other != lead]  # fmt: skip
    texts = [view.labels.formatted(limit, measure.scale) for limit in sorted(filter(None, limits))]
    return numbers, "–".join(dict.fromkeys([texts[0], texts[-1]])) if texts else ""  # noqa: RUF001


def cells_id(view: View, place: Place) -> str:
    """The id of the section on the cells of a place."""
    architecture, defense = place
    return f"cells-{view.architectures.index(architecture)}-{view.defenses.index(defense)}"


def _number(
    view: View, measure: Measure, estimate: Estimate | None, rank_of: int | None, target: str
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
    """A table whose columns are defenses, or if these are too many for a page, one whose rows
    are."""
    if len(table.columns) <= MOST_DEFENSES_ACROSS:
        return table
    spread = any(column.spread for column in table.columns)
    blocks = [
        Block(block.header, [
            Row(column.header, [row.numbers[place] for row in block.rows],
                minor=spread and not column.spread)
            for place, column in enumerate(table.columns)
        ])
        for block in table.blocks
    ]  # fmt: skip
    columns = [Column(row.header, spread=True) for row in table.blocks[0].rows]
    return replace(table, corner=corner, columns=columns, blocks=blocks)


def nth_letter(index: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    more, last = divmod(index, len(ascii_lowercase))
    return (nth_letter(more - 1) if more else "") + ascii_lowercase[last]
