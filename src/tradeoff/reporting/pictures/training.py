"""Validation NA and RA over the epochs."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tradeoff.reporting.pictures import drawing
from tradeoff.reporting.pictures.picture import Picture, picture
from tradeoff.reporting.style import INK, PAPER, Look
from tradeoff.reporting.view import View


def pictures(view: View) -> list[Picture]:
    return [
        picture(view, "training", draw, description, name, part=name, name=view.network(name))
        for name in view.architectures
    ]


def draw(view: View, architecture: str) -> Figure:
    """A panel for each defense, a line for each seed."""
    # What fits a page: three large panels in a row, or six small ones.
    columns, width, height = (3, 2.1, 1.75) if len(view.defenses) <= 12 else (6, 1.06, 1.2)
    figure, panels = drawing.panel_grid(len(view.defenses), height, columns, width)
    drawing.number_axes(view, panels[0], whole=True)
    for index, (panel, defense) in enumerate(zip(panels, view.defenses, strict=True)):
        panel.set_title(view.name(defense), fontsize=9 if columns == 3 else 6)
        panel.set_ylim(0, 100)
        histories = view.histories((architecture, defense))
        if not histories:
            drawing.say_nothing(view, panel)
        for history in histories:
            _lines(panel, history, view.looks[defense])
        if index + columns >= len(panels):
            panel.set_xlabel(view("figures.axes.epoch"))
            panel.tick_params(labelbottom=True)
        if index % columns == 0:
            panel.set_ylabel(view("figures.axes.validation"))
    handles = [
        Line2D([], [], color=INK, linestyle=drawing.NATURAL, label=view("metric_names_short.NA")),
        Line2D([], [], color=INK, linestyle=drawing.ROBUST, label=view("metric_names_short.RA")),
        Line2D([], [], color=INK, linestyle="none", marker="o", markersize=4,
               label=view("figures.selected")),
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _lines(panel: Axes, history: pd.DataFrame, look: Look) -> None:
    chosen = history["selected"] == 1
    for kind, dashes in (("natural", drawing.NATURAL), ("robust", drawing.ROBUST)):
        curve = 100 * history[f"validation_{kind}_accuracy"]
        panel.plot(history["epoch"], curve, color=look.colour, linewidth=0.9, linestyle=dashes)
        panel.plot(history["epoch"][chosen], curve[chosen], linestyle="none", marker="o",
                   markersize=4, color=look.colour, markeredgecolor=PAPER,
                   markeredgewidth=0.5, zorder=3)  # fmt: skip


def description(view: View, architecture: str) -> str:
    """For each defense the selected epochs of its seeds."""
    parts = []
    for defense in view.defenses:
        epochs = [str(epoch) for history in view.histories((architecture, defense))
                  for epoch in selected_epochs(history)]  # fmt: skip
        chosen = view.labels.enumerate(epochs) or view("words.nothing")
        parts.append(f"{view.name(defense)}: {chosen}")
    alt = view("figures.training.alt", architecture=view.network(architecture))
    return f"{alt} {'; '.join(parts)}."


def selected_epochs(history: pd.DataFrame) -> list[int]:
    """The selected epoch, counted as the CSV counts."""
    return [int(epoch) for epoch in history.loc[history["selected"] == 1, "epoch"]]
