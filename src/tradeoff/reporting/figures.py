"""The figures of a report, drawn with matplotlib's objects and without its global state."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tradeoff.core.study import Cell, Study
from tradeoff.reporting.descriptions import source_name
from tradeoff.reporting.estimates import estimate, write
from tradeoff.reporting.labels import Labels
from tradeoff.reporting.results import Results
from tradeoff.reporting.style import GRID, INK, PAPER, RC, Look, looks

PANEL_WIDTH = 3.1  # inches; two panels fill the text width of an A4 page
CLASSES_MAP = LinearSegmentedColormap.from_list("classes", ["#f4e3c3", "#9fc3d6", "#24557a"])


@contextmanager
def drawing() -> Iterator[None]:
    """matplotlib with this package's style only, whatever the user's matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        yield


def tradeoff(study: Study, results: Results, labels: Labels) -> Figure:
    """NA against RA, a panel for each architecture: seeds small, means large with sd whiskers.

    Below each panel is its part without the control: standard training, of no robustness, leaves
    the defenses little room.
    """
    architectures, styles = study.axes.architectures, looks(study.axes.defenses)
    shown = [list(styles), [name for name in styles if name != "standard"]]
    shown = shown[: 2 if 0 < len(shown[1]) < len(shown[0]) else 1]
    columns = len(architectures)
    figure = Figure(figsize=(PANEL_WIDTH * max(2, columns), 2.6 * len(shown) + 0.4),
                    layout="constrained")  # fmt: skip
    panels = figure.subplots(len(shown), columns, squeeze=False, sharex="row", sharey="row")
    for row, names in zip(panels, shown, strict=True):
        for panel, architecture in zip(row, architectures, strict=True):
            name = labels.name("architectures", architecture)
            detail = names is not shown[0]
            panel.set_title(labels("figures.detail", architecture=name) if detail else name)
            panel.set_xlabel(labels("figures.axes.RA"))
            panel.set_axisbelow(True)
            for defense in names:
                _tradeoff_points(panel, results.group(defense, architecture), styles[defense])
        row[0].set_ylabel(labels("figures.axes.NA"))
        _number_axes(row[0], labels)
    _legend(figure, styles, labels)
    return figure


def _tradeoff_points(panel: Axes, rows: pd.DataFrame, look: Look) -> None:
    natural, robust = estimate(rows["NA"]), estimate(rows["RA"])
    if natural is None or robust is None:
        return
    panel.plot(100 * rows["RA"], 100 * rows["NA"], linestyle="none", marker=look.marker,
               markersize=3, color=look.colour, alpha=0.55, markeredgewidth=0)  # fmt: skip
    panel.errorbar(
        100 * robust.mean,
        100 * natural.mean,
        xerr=None if robust.sd is None else 100 * robust.sd,
        yerr=None if natural.sd is None else 100 * natural.sd,
        marker=look.marker, markersize=7.5, markeredgecolor=PAPER, markeredgewidth=0.8,
        color=look.colour, elinewidth=1, capsize=2, zorder=3,
    )  # fmt: skip


def training(architecture: str, study: Study, results: Results, labels: Labels) -> Figure:
    """Validation NA and RA over the epochs, a panel for each defense, a line for each seed."""
    figure, panels = _panels(len(study.axes.defenses), 1.75, labels, columns=3, width=2.1)
    styles = looks(study.axes.defenses)
    for panel, (defense, look) in zip(panels, styles.items(), strict=True):
        panel.set_title(labels.name("defenses", defense))
        panel.set_ylim(0, 100)
        histories = _histories(results, defense, architecture)
        if not histories:
            _say_nothing(panel, labels)
        for history in histories:
            _training_lines(panel, history, look)
    for index, panel in enumerate(panels):
        if index + 3 >= len(panels):
            panel.set_xlabel(labels("figures.axes.epoch"))
            panel.tick_params(labelbottom=True)
        if index % 3 == 0:
            panel.set_ylabel(labels("figures.axes.validation"))
    handles = [
        Line2D([], [], color=INK, label=labels("metric_names_short.NA")),
        Line2D([], [], color=INK, linestyle=(0, (3, 1.5)), label=labels("metric_names_short.RA")),
        Line2D([], [], color=INK, linestyle="none", marker="o", markersize=4,
               label=labels("figures.selected")),
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _training_lines(panel: Axes, history: pd.DataFrame, look: Look) -> None:
    natural = 100 * history["validation_natural_accuracy"]
    robust = 100 * history["validation_robust_accuracy"]
    panel.plot(history["epoch"], natural, color=look.colour, linewidth=0.9)
    panel.plot(history["epoch"], robust, color=look.colour, linewidth=0.9, linestyle=(0, (3, 1.5)))
    chosen = history["selected"] == 1
    for curve in (natural, robust):
        panel.plot(history["epoch"][chosen], curve[chosen], linestyle="none", marker="o",
                   markersize=4, color=look.colour, markeredgecolor=PAPER,
                   markeredgewidth=0.5, zorder=3)  # fmt: skip


def adaptive_defenses(study: Study, results: Results) -> list[str]:
    """The defenses whose training wrote a weight lambda for each sample."""
    return [
        defense
        for defense in study.axes.defenses
        if any(
            cell.defense == defense and "lambda_mean" in results.histories.get(cell.key, ())
            for cell in results.expected
        )
    ]


def weights(defense: str, study: Study, results: Results, labels: Labels) -> Figure:
    """lambda over training and, where known, the two terms that it is the sum of.

    Lines are means over the seeds; the band is the mean spread of lambda between samples.
    """
    figure, panels = _panels(len(study.axes.architectures), 2.5, labels)
    look = looks(study.axes.defenses)[defense]
    knobs = study.knobs[defense].model_dump()
    for panel, architecture in zip(panels, study.axes.architectures, strict=True):
        panel.set_title(labels.name("architectures", architecture))
        panel.set_xlabel(labels("figures.axes.epoch"))
        histories = [history for history in _histories(results, defense, architecture)
                     if "lambda_mean" in history]  # fmt: skip
        if not histories:
            _say_nothing(panel, labels)
            continue
        mean, spread = _over_seeds(histories, "lambda_mean"), _over_seeds(histories, "lambda_std")
        panel.plot(mean.index, mean, color=look.colour, linewidth=1.6)
        if len(spread):
            low = (mean - spread).clip(lower=0)
            panel.fill_between(mean.index, low, mean + spread, color=look.colour, alpha=0.18,
                               linewidth=0)  # fmt: skip
        for column, knob, dashes in PARTS:
            part = _over_seeds(histories, column)
            if len(part) and knob in knobs:
                panel.plot(part.index, knobs[knob] * part, color=INK, linewidth=1, linestyle=dashes)
        panel.set_ylim(bottom=0)
    panels[0].set_ylabel(labels("figures.axes.lambda"))
    handles = [Line2D([], [], color=look.colour, linewidth=1.6, label=labels("figures.parts.sum"))]
    for _, knob, dashes in PARTS:
        text = labels(f"figures.parts.{knob}")
        handles.append(Line2D([], [], color=INK, linewidth=1, linestyle=dashes, label=text))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


PARTS: tuple[tuple[str, str, Any], ...] = (
    ("entropy_mean", "alpha", (0, (4, 1.5))),
    ("sensitivity_mean", "beta", (0, (1, 1.2))),
)


def classes(study: Study, results: Results, labels: Labels) -> Figure:
    """RA of every class as a field of numbers; each defense's worst class is framed."""
    rows = len(study.axes.defenses)
    figure, panels = _panels(len(study.axes.architectures), 0.35 + 0.24 * rows, labels, columns=1,
                             width=2 * PANEL_WIDTH)  # fmt: skip
    for panel, architecture in zip(panels, study.axes.architectures, strict=True):
        panel.set_title(labels.name("architectures", architecture))
        _class_field(panel, architecture, study, results, labels)
    panels[-1].set_xlabel(labels("figures.axes.class"))
    return figure


def curve(study: Study, results: Results, labels: Labels) -> Figure:
    """RA over epsilon from the minimum norms, a line for each defense, a mean over the seeds.

    Lone markers at the threat's epsilon are the RA of the bounded attacks and AutoAttack.
    """
    figure, panels = _panels(len(study.axes.architectures), 2.6, labels, whole=False)
    styles = looks(study.axes.defenses)
    threat = results.dataset.threat
    for panel, architecture in zip(panels, study.axes.architectures, strict=True):
        panel.set_title(labels.name("architectures", architecture))
        norm = labels.name("norms", threat.norm)
        panel.set_xlabel(labels("figures.axes.epsilon", norm=norm))
        panel.set_ylim(0, 100)
        panel.axvline(threat.epsilon, color=INK, linewidth=0.8, linestyle=(0, (1, 1.5)))
        lines = {name: results.robustness_curve(name, architecture) for name in styles}
        if not any(map(len, lines.values())):
            _say_nothing(panel, labels)
        for place, (defense, line) in enumerate(lines.items()):
            look = styles[defense]
            panel.plot(line.index, 100 * line, color=look.colour, linewidth=1.2, marker=look.marker,
                       markersize=4, markevery=(2 + place, 9), markeredgewidth=0)  # fmt: skip
            bounded = estimate(results.group(defense, architecture)["RA"])
            if bounded:
                panel.plot([threat.epsilon], [100 * bounded.mean], marker=look.marker,
                           markersize=6.5, color=look.colour, markeredgecolor=INK,
                           markeredgewidth=0.9, zorder=3)  # fmt: skip
    panels[0].set_xlim(left=0)
    panels[0].set_ylabel(labels("figures.axes.RA"))
    _legend(figure, styles, labels)
    return figure


def transfer(results: Results, labels: Labels) -> Figure:
    """Share of right images fooled as a field of numbers: sources down, target defenses across."""
    table = results.transfer_matrix()
    figure = Figure(figsize=(2 * PANEL_WIDTH, 0.75 + 0.26 * len(table)), layout="constrained")
    panel = figure.subplots()
    panel.grid(False)
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0)
    panel.set_yticks(range(len(table)), [source_name(str(name), labels) for name in table.index])
    panel.set_xticks(range(table.shape[1]), [labels.name("defenses", str(name)) for name in table])
    panel.set_xlim(-0.5, table.shape[1] - 0.5)
    panel.set_ylim(len(table) - 0.5, -0.5)
    panel.set_ylabel(labels("figures.axes.source"))
    panel.set_xlabel(labels("figures.axes.target"))
    for row, values in enumerate(table.to_numpy(dtype=float)):
        for column, value in enumerate(values):
            if np.isnan(value):
                panel.text(column, row, "—", ha="center", va="center")
            else:
                _box(panel, column, row, value, False, labels)
    return figure


def _class_field(
    panel: Axes, architecture: str, study: Study, results: Results, labels: Labels
) -> None:
    defenses = study.axes.defenses
    table = pd.DataFrame(
        {defense: results.class_accuracies(defense, architecture) for defense in defenses}
    ).T.reindex(defenses)
    panel.grid(False)
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0, labelbottom=True)
    panel.set_yticks(range(len(defenses)), [labels.name("defenses", name) for name in defenses])
    if not table.shape[1]:
        _say_nothing(panel, labels)
        return
    panel.set_xticks(range(table.shape[1]), [str(index) for index in table.columns])
    panel.set_xlim(-0.5, table.shape[1] - 0.5)
    panel.set_ylim(len(defenses) - 0.5, -0.5)
    for row, values in enumerate(table.to_numpy(dtype=float)):
        if np.isnan(values).all():
            panel.text(-0.4, row, labels("figures.no_data"), va="center", style="italic")
            continue
        worst = int(np.nanargmin(values))
        for column, value in enumerate(values):
            if not np.isnan(value):
                _box(panel, column, row, value, column == worst, labels)


def _box(panel: Axes, column: int, row: int, value: float, framed: bool, labels: Labels) -> None:
    """A rate in a field of numbers."""
    # Boxes, and what lies on them, look the same on a dark page.
    red, green, blue, _ = CLASSES_MAP(value)
    text = "#ffffff" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else "#101010"
    panel.add_patch(
        Rectangle((column - 0.47, row - 0.45), 0.94, 0.9, facecolor=CLASSES_MAP(value),
                  edgecolor=INK if framed else "none", linewidth=1.8)
    )  # fmt: skip
    panel.text(column, row, write(f"{100 * value:.0f}", labels.mark), ha="center", va="center",
               color=text, weight="bold" if framed else "normal")  # fmt: skip


def _panels(
    count: int, height: float, labels: Labels, columns: int = 2, width: float = PANEL_WIDTH,
    whole: bool = True,
) -> tuple[Figure, Sequence[Axes]]:  # fmt: skip
    """`count` panels in rows of `columns` with common scales; the language's decimal mark."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * max(columns, 2 if columns > 1 else 1), height * rows + 0.5),
                    layout="constrained")  # fmt: skip
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    panels = list(grid.flat)
    for panel in panels[count:]:
        panel.remove()
    _number_axes(panels[0], labels, whole)
    for panel in panels[:count]:
        panel.set_axisbelow(True)
    return figure, panels[:count]


def _number_axes(panel: Axes, labels: Labels, whole: bool = False) -> None:
    """Few ticks, with the language's decimal mark; epochs and classes are `whole` numbers."""
    steps = [1, 2, 2.5, 5, 10]
    panel.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=steps, integer=whole))
    panel.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=steps))
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: write(f"{value:.6g}", labels.mark)))


def _legend(figure: Figure, styles: dict[str, Look], labels: Labels) -> None:
    handles = [
        Line2D([], [], linestyle="none", marker=look.marker, color=look.colour, markersize=6,
               label=labels.name("defenses", defense))
        for defense, look in styles.items()
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)),
                  handletextpad=0.2, columnspacing=1.4)  # fmt: skip


def _say_nothing(panel: Axes, labels: Labels) -> None:
    box = {"facecolor": PAPER, "edgecolor": GRID}
    panel.text(0.5, 0.5, labels("figures.no_data"), transform=panel.transAxes, ha="center",
               va="center", style="italic", bbox=box)  # fmt: skip


def _histories(results: Results, defense: str, architecture: str) -> list[pd.DataFrame]:
    def belongs(cell: Cell) -> bool:
        return cell.defense == defense and cell.architecture == architecture

    found = (results.histories.get(cell.key) for cell in results.expected if belongs(cell))
    return [history for history in found if history is not None]


def _over_seeds(histories: list[pd.DataFrame], column: str) -> pd.Series:
    """Mean of a column over the seeds by epoch; empty if no history has it."""
    curves = [history.set_index("epoch")[column] for history in histories if column in history]
    if not curves:
        return pd.Series(dtype=float)
    return pd.concat(curves, axis=1).mean(axis=1).dropna()
