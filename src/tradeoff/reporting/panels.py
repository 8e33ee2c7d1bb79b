"""What all figures share: the style, panels on a grid, axes in the language, the legend."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tradeoff.reporting.estimates import write
from tradeoff.reporting.labels import Labels
from tradeoff.reporting.style import GRID, PAPER, RC, Look

PANEL_WIDTH = 3.1  # inches; two panels fill the text width of an A4 page


@contextmanager
def drawing() -> Iterator[None]:
    """matplotlib with this package's style only, whatever the user's matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        yield


def panel_grid(
    count: int, height: float, labels: Labels, columns: int = 2, width: float = PANEL_WIDTH,
    whole: bool = True,
) -> tuple[Figure, Sequence[Axes]]:  # fmt: skip
    """`count` panels in rows of `columns` with common scales; the language's decimal mark."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    panels = list(grid.flat)
    for panel in panels[count:]:
        panel.remove()
    number_axes(panels[0], labels, whole)
    for panel in panels[:count]:
        panel.set_axisbelow(True)
    return figure, panels[:count]


def number_axes(panel: Axes, labels: Labels, whole: bool = False) -> None:
    """Few ticks, with the language's decimal mark; epochs and classes are `whole` numbers."""
    steps = [1, 2, 2.5, 5, 10]
    panel.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=steps, integer=whole))
    panel.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=steps))
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: write(f"{value:.6g}", labels.mark)))


def legend(figure: Figure, styles: dict[str, Look], labels: Labels) -> None:
    handles = [
        Line2D([], [], linestyle="none", marker=look.marker, color=look.colour, markersize=6,
               label=labels.name("defenses", defense))
        for defense, look in styles.items()
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)),
                  handletextpad=0.2, columnspacing=1.4)  # fmt: skip


def say_nothing(panel: Axes, labels: Labels) -> None:
    box = {"facecolor": PAPER, "edgecolor": GRID}
    panel.text(0.5, 0.5, labels("figures.no_data"), transform=panel.transAxes, ha="center",
               va="center", style="italic", bbox=box)  # fmt: skip
