"""Every model of a data set for a page: its numbers, its training curve, its flags."""

import pandas as pd
from markupsafe import Markup, escape

from tradeoff.core.study import Cell
from tradeoff.reporting.coverage import reasons
from tradeoff.reporting.evidence import flag_name
from tradeoff.reporting.pictures.training import selected_epochs
from tradeoff.reporting.results import select
from tradeoff.reporting.setting import defense_knobs
from tradeoff.reporting.style import INK
from tradeoff.reporting.table import cells_id
from tradeoff.reporting.vector import colour_variable
from tradeoff.reporting.view import View

NUMBERS = ("NA", "RA", "RD", "ASR", "RA_worst_class", "ECE")  # of a cell
WIDTH, HEIGHT = 220, 80  # of a training curve


def cell_groups(view: View) -> list[dict[str, object]]:
    """All cells, by architecture and defense; `id` is what the numbers of tables lead to."""
    return [
        {
            "id": cells_id(view, place),
            "title": f"{view.network(place[0])}, {view.name(place[1])}",
            "knobs": defense_knobs(place[1], view.study.knobs[place[1]].model_dump(), view.labels)
            or view("none"),
            "cells": [_cell(view, cell) for cell in view.cells(place)],
        }
        for place in view.places()
    ]


def _cell(view: View, cell: Cell) -> dict[str, object]:
    """A cell; without numbers if it is not evaluated, without reasons if it is."""
    rows = _rows(view.results.cells, cell)
    history = view.results.histories.get(cell.key)
    epochs = [] if history is None else selected_epochs(history)
    return {
        "key": cell.key,
        "seed": cell.seed,
        "evaluated": bool(len(rows)),
        "reasons": [] if len(rows) else reasons(view, cell),
        "numbers": [(view(f"metrics.{metric}"), view.labels.percent(float(rows.iloc[0][metric])))
                    for metric in NUMBERS if len(rows)],
        "epoch": ", ".join(map(str, epochs)),
        "flags": _flags(view, cell),
        "curve": Markup("") if history is None else _curve(view, cell, history),
    }  # fmt: skip


def _rows(table: pd.DataFrame, cell: Cell) -> pd.DataFrame:
    return select(table, defense=cell.defense, architecture=cell.architecture, seed=cell.seed)


def _flags(view: View, cell: Cell) -> str:
    rows = _rows(view.results.judged, cell)
    if rows.empty:
        return view("cells.flags_unknown")
    raised = [flag_name(view, str(flag)) for flag in rows[rows["raised"]]["flag"]]
    return "; ".join(raised) or view("cells.no_flags")


def _curve(view: View, cell: Cell, history: pd.DataFrame) -> Markup:
    """Validation accuracies over the epochs as a small SVG, by hand: one for every cell would take
    matplotlib many seconds."""
    colour = colour_variable(view.looks[cell.defense].colour)
    ink = colour_variable(INK)
    epochs = ", ".join(map(str, selected_epochs(history)))
    title = view("cells.curve", cell=cell.key, epoch=epochs)
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
