"""Every model of a data set for a page: its numbers, its training curve, its flags."""

from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup, escape

from tradeoff.core.study import Cell, Study
from tradeoff.reporting.descriptions import selected_epochs
from tradeoff.reporting.evidence import flag_name
from tradeoff.reporting.labels import Labels
from tradeoff.reporting.missing import reasons
from tradeoff.reporting.results import Results
from tradeoff.reporting.setting import knob_text
from tradeoff.reporting.style import INK, looks
from tradeoff.reporting.tables import cells_id
from tradeoff.reporting.vector import colour_variable

NUMBERS = ("NA", "RA", "RD", "ASR", "RA_worst_class", "ECE")  # of a cell
WIDTH, HEIGHT = 220, 80  # of a training curve


@dataclass(frozen=True)
class Detail:
    """A cell. `numbers` and `flags` are empty if it is not evaluated, `reasons` if it is."""

    key: str
    seed: int
    there: bool
    reasons: list[str]
    numbers: list[tuple[str, str]]
    epoch: str
    flags: str
    curve: Markup


@dataclass(frozen=True)
class CellGroup:
    """The cells of a defense on an architecture; `id` is what the numbers of tables lead to."""

    id: str
    title: str
    knobs: str
    cells: list[Detail]


@dataclass(frozen=True)
class GridRow:
    title: str
    id: str
    there: list[bool]


def coverage_grid(study: Study, results: Results, labels: Labels) -> list[GridRow]:
    """For each architecture and defense which seeds are evaluated."""
    absent = {cell.key for cell in results.missing_cells}
    rows = []
    for architecture in study.axes.architectures:
        for defense in study.axes.defenses:
            own = results.cells_of(defense, architecture)
            rows.append(GridRow(_title(defense, architecture, labels),
                                cells_id(architecture, defense, study),
                                [cell.key not in absent for cell in own]))  # fmt: skip
    return rows


def cell_groups(study: Study, results: Results, labels: Labels) -> list[CellGroup]:
    """All cells, by architecture and defense."""
    return [
        CellGroup(
            cells_id(architecture, defense, study),
            _title(defense, architecture, labels),
            knob_text(study.knobs[defense].model_dump(), labels) or labels("none"),
            [_detail(cell, study, results, labels)
             for cell in results.cells_of(defense, architecture)],
        )
        for architecture in study.axes.architectures
        for defense in study.axes.defenses
    ]  # fmt: skip


def _title(defense: str, architecture: str, labels: Labels) -> str:
    return f"{labels.name('architectures', architecture)}, {labels.name('defenses', defense)}"


def _detail(cell: Cell, study: Study, results: Results, labels: Labels) -> Detail:
    rows = results.group(cell.defense, cell.architecture)
    rows = rows[rows["seed"] == cell.seed]
    numbers = []
    for metric in NUMBERS if len(rows) else ():
        numbers.append((labels(f"metrics.{metric}"), labels.percent(float(rows.iloc[0][metric]))))
    return Detail(
        cell.key,
        cell.seed,
        bool(len(rows)),
        [] if len(rows) else reasons(cell, results, labels),
        numbers,
        ", ".join(map(str, selected_epochs(results, cell))),
        _flags(cell, results, labels),
        _curve(cell, study, results, labels),
    )


def _flags(cell: Cell, results: Results, labels: Labels) -> str:
    rows = results.flags(cell.defense, cell.architecture)
    rows = rows[(rows["seed"] == cell.seed) & rows["raised"].notna()]
    if rows.empty:
        return labels("cells.flags_unknown")
    raised = [flag_name(str(flag), labels) for flag in rows[rows["raised"] == "True"]["flag"]]
    return "; ".join(raised) or labels("cells.no_flags")


def _curve(cell: Cell, study: Study, results: Results, labels: Labels) -> Markup:
    """Validation accuracies over the epochs as a small SVG, by hand: one for every cell would take
    matplotlib many seconds. Empty without a history."""
    history = results.histories.get(cell.key)
    if history is None:
        return Markup("")
    colour = colour_variable(looks(study.axes.defenses)[cell.defense].colour)
    ink = colour_variable(INK)
    epochs = selected_epochs(results, cell)
    title = labels("cells.curve", cell=cell.key, epoch=", ".join(map(str, epochs)))
    natural = _points(history, "validation_natural_accuracy")
    robust = _points(history, "validation_robust_accuracy")
    marks = "".join(
        f'<line x1="{natural[place][0]}" x2="{natural[place][0]}" y1="0" y2="{HEIGHT}" '
        f'stroke="var({ink})" stroke-width="0.6" stroke-dasharray="1 2"/>'
        for place, chosen in enumerate(history["selected"] == 1) if chosen
    )  # fmt: skip
    lines = "".join(
        f'<polyline points="{" ".join(f"{x},{y}" for x, y in points)}" fill="none" '
        f'stroke="var({colour})" stroke-width="1.6"{dashes}/>'
        for points, dashes in ((natural, ""), (robust, ' stroke-dasharray="4 2.5"'))
    )
    frame = f'<path d="M0 0V{HEIGHT}H{WIDTH}" fill="none" stroke="var({ink})" stroke-width="0.8"/>'
    return Markup(
        f'<svg class="curve" role="img" viewBox="-1 -2 {WIDTH + 4} {HEIGHT + 4}" '
        f'aria-label="{escape(title)}">{frame}{marks}{lines}</svg>'
    )


def _points(history: pd.DataFrame, column: str) -> list[tuple[float, float]]:
    values = history[column].astype(float).fillna(0.0)
    step = WIDTH / max(1, len(values) - 1)
    return [(round(place * step, 1), round(HEIGHT * (1 - value), 1))
            for place, value in enumerate(values)]  # fmt: skip
