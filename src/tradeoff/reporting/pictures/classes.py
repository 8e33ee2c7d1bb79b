"""RA of every class."""

import pandas as pd
from matplotlib.figure import Figure

from tradeoff.reporting.pictures import drawing
from tradeoff.reporting.pictures.picture import Picture, picture
from tradeoff.reporting.results import worst
from tradeoff.reporting.view import View


def pictures(view: View) -> list[Picture]:
    return [picture(view, "classes", draw, description, means_of="cells")]


def class_means(view: View, architecture: str) -> pd.DataFrame:
    """RA by class (across) of each defense, means over the seeds; NaN where nothing is known."""
    accuracies = view.results.class_accuracies()
    rows = accuracies[accuracies.index.get_level_values("architecture") == architecture]
    return rows.groupby(level="defense").mean().reindex(view.defenses).dropna(axis=1, how="all")


def draw(view: View) -> Figure:
    """A field of numbers for each architecture; each defense's worst classes are framed."""
    height = 0.35 + len(view.defenses) * drawing.field_row(len(view.defenses), 0.24)
    # Below each other, or if that would be higher than a page, beside each other.
    columns = 1 if len(view.defenses) <= 12 else 2
    width = 2 * drawing.PANEL_WIDTH / columns
    figure, panels = drawing.panel_grid(len(view.architectures), height, columns, width)
    for panel, architecture in zip(panels, view.architectures, strict=True):
        panel.set_title(view.network(architecture))
        table = class_means(view, architecture)
        framed = table.apply(worst, axis=1) if len(table.columns) else None
        drawing.field(view, panel, table, [str(index) for index in table], framed)
    panels[-1].set_xlabel(view("figures.axes.class"))
    return figure


def description(view: View) -> str:
    """For each defense and architecture the worst class, or classes, and its RA."""
    values: dict[tuple[str, str], dict[str, object]] = {}
    for architecture in view.architectures:
        for defense, row in class_means(view, architecture).dropna(how="all").iterrows():
            least = [str(index) for index in row.index[worst(row)]]
            values[architecture, str(defense)] = {
                "worst": view.labels.enumerate(least), "ra": view.labels.percent(row.min()),
            }  # fmt: skip
    return view.per_architecture("classes", values)
