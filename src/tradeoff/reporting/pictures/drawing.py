"""The parts that figures share: panels, axes, legends, markers, and fields of numbers."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tradeoff.reporting.estimates import Estimate, localized
from tradeoff.reporting.style import GRID, INK, PAPER, Dashes, Look
from tradeoff.reporting.view import View

PANEL_WIDTH = 3.1  # inches; two panels fill the text width of an A4 page
LEGEND_COLUMNS = 6
FIELD_HEIGHT = 6.8  # inches; the rows of a higher field would not fit an A4 page
RATES = LinearSegmentedColormap.from_list("rates", ["#f4e3c3", "#9fc3d6", "#24557a"])
NATURAL: Dashes = "-"
ROBUST: Dashes = (0, (3, 1.5))


def panel_grid(
    count: int, height: float, columns: int = 2, width: float = PANEL_WIDTH
) -> tuple[Figure, Sequence[Axes]]:
    """`count` panels in rows of `columns` with common scales, at least as wide as the page."""
    columns = min(columns, count)
    rows = -(-count // columns)
    size = (max(width * columns, 2 * PANEL_WIDTH), height * rows + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
    for panel in panels[count:]:
        panel.remove()
    for panel in panels[:count]:
        panel.set_axisbelow(True)
    return figure, panels[:count]


def number_axes(view: View, panel: Axes, whole: bool = False) -> None:
    """Few ticks, with the language's decimal mark; epochs and classes are `whole` numbers."""
    steps = [1, 2, 2.5, 5, 10]
    panel.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=steps, integer=whole))
    panel.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=steps))
    written = FuncFormatter(lambda value, _: localized(f"{value:.6g}", view.labels.mark))
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter(written)


def legend(view: View, figure: Figure, lines: bool = False) -> None:
    """The defenses with their looks below the panels; many make the figure higher."""
    handles = [
        Line2D([], [], linestyle=look.dashes if lines else "none", linewidth=1.2,
               marker=look.marker, color=look.colour, markersize=6, label=view.name(defense))
        for defense, look in view.looks.items()
    ]  # fmt: skip
    width, height = figure.get_size_inches()
    longest = max(len(str(handle.get_label())) for handle in handles)
    # A letter of 8 points is 4.5 points wide, what stands around a name takes 30.
    columns = min(LEGEND_COLUMNS, max(1, int(72 * width / (30 + 4.5 * longest))))
    rows = -(-len(handles) // columns)
    figure.set_size_inches(width, height + 0.17 * (rows - 1))
    figure.legend(handles=handles, loc="outside lower center",
                  ncols=min(columns, len(handles)), handletextpad=0.2,
                  columnspacing=1.4)  # fmt: skip


def say_nothing(view: View, panel: Axes) -> None:
    box = {"facecolor": PAPER, "edgecolor": GRID}
    panel.text(0.5, 0.5, view("figures.no_data"), transform=panel.transAxes, ha="center",
               va="center", style="italic", bbox=box)  # fmt: skip


def mean_marker(panel: Axes, look: Look, across: Estimate, up: Estimate, scale: float = 1) -> None:
    """A large marker at two means, with whiskers of one standard deviation; `up` is a rate, and
    `across` is multiplied by `scale`."""
    panel.errorbar(
        scale * across.mean, 100 * up.mean,
        xerr=None if across.sd is None else scale * across.sd,
        yerr=None if up.sd is None else 100 * up.sd,
        marker=look.marker, markersize=7.5, markeredgecolor=PAPER, markeredgewidth=0.8,
        color=look.colour, elinewidth=1, capsize=2, zorder=3,
    )  # fmt: skip


def field(
    view: View, panel: Axes, table: pd.DataFrame, columns: Sequence[str],
    framed: pd.DataFrame | None = None,
) -> None:  # fmt: skip
    """Rates as a field of numbers, defenses down; `columns` are the names of what is across."""
    panel.grid(False)
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0, labelbottom=True)
    size = min(8.0, 300 / max(len(table), 1), 240 / max(len(columns), 1))
    names = [view.name(str(name)) for name in table.index]
    panel.set_yticks(range(len(table)), names, fontsize=max(size, 6))
    if not len(columns):
        say_nothing(view, panel)
        return
    many = sum(map(len, columns)) > 80
    panel.set_xticks(range(len(columns)), columns, rotation=90 if many else 0,
                     fontsize=max(size, 6))  # fmt: skip
    panel.set_xlim(-0.5, len(columns) - 0.5)
    panel.set_ylim(len(table) - 0.5, -0.5)
    for row, values in enumerate(table.to_numpy(dtype=float)):
        if np.isnan(values).all():
            panel.text(-0.4, row, view("figures.no_data"), va="center", style="italic")
            continue
        for column, value in enumerate(values):
            if np.isnan(value):
                panel.text(column, row, "—", ha="center", va="center")
            else:
                frame = framed is not None and bool(framed.iloc[row, column])
                _box(view, panel, column, row, value, frame, size)


def field_row(count: int, height: float) -> float:
    """The height of each of `count` rows of a field, in inches: `height`, or what fits a page."""
    return min(height, FIELD_HEIGHT / max(count, 1))


def _box(
    view: View, panel: Axes, column: int, row: int, value: float, framed: bool, size: float
) -> None:
    """A rate in a field of numbers, its digits of `size` points."""
    # Boxes, and what lies on them, look the same on a dark page.
    red, green, blue, _ = RATES(value)
    text = "#ffffff" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else "#101010"
    panel.add_patch(
        Rectangle((column - 0.47, row - 0.45), 0.94, 0.9, facecolor=RATES(value),
                  edgecolor=INK if framed else "none", linewidth=1.8)
    )  # fmt: skip
    panel.text(column, row, localized(f"{100 * value:.0f}", view.labels.mark), ha="center",
               va="center", color=text, weight="bold" if framed else "normal",
               fontsize=size)  # fmt: skip
