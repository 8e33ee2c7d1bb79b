"""The figures of accuracies, training and transfer, drawn without matplotlib's global state."""

import re
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from tradeoff.core.study import Study
from tradeoff.core.tables import CONTROL
from tradeoff.reporting.descriptions import pareto_front, source_name
from tradeoff.reporting.estimates import estimate, write
from tradeoff.reporting.labels import Labels
from tradeoff.reporting.panels import PANEL_WIDTH, legend, number_axes, panel_grid, say_nothing
from tradeoff.reporting.results import Results, worst
from tradeoff.reporting.style import INK, PAPER, Look, looks

CLASSES_MAP = LinearSegmentedColormap.from_list("classes", ["#f4e3c3", "#9fc3d6", "#24557a"])


def tradeoff(study: Study, results: Results, labels: Labels) -> Figure:
    """NA against RA, a panel for each architecture: seeds small, means large with sd whiskers.

    Below each panel is its part without the control: standard training, of no robustness, leaves
    the defenses little room.
    """
    architectures, styles = study.axes.architectures, looks(study.axes.defenses)
    shown = [list(styles), [name for name in styles if name != CONTROL]]
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
            front = pareto_front(names, architecture, results)
            panel.plot([100 * robust for _, _, robust in front],
                       [100 * natural for _, natural, _ in front],
                       color=INK, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)  # fmt: skip
        row[0].set_ylabel(labels("figures.axes.NA"))
        number_axes(row[0], labels)
    legend(figure, styles, labels)
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
    figure, panels = panel_grid(len(study.axes.defenses), 1.75, labels, columns=3, width=2.1)
    styles = looks(study.axes.defenses)
    for panel, (defense, look) in zip(panels, styles.items(), strict=True):
        panel.set_title(labels.name("defenses", defense))
        panel.set_ylim(0, 100)
        histories = histories_of(results, defense, architecture)
        if not histories:
            say_nothing(panel, labels)
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
    """lambda over training and, where known, the two terms that it is the sum of; below, both
    terms of each class in the last epoch.

    Lines are means over the seeds. The band holds the middle 80 % of the images, or where the
    history has no quantiles one standard deviation.
    """
    columns = len(study.axes.architectures)
    figure = Figure(figsize=(PANEL_WIDTH * max(2, columns), 4.6), layout="constrained")
    panels = figure.subplots(2, columns, squeeze=False, sharex="row", sharey="row")
    look = looks(study.axes.defenses)[defense]
    knobs = study.knobs[defense].model_dump()
    for place, architecture in enumerate(study.axes.architectures):
        over_time, by_class = panels[0][place], panels[1][place]
        over_time.set_title(labels.name("architectures", architecture))
        over_time.set_xlabel(labels("figures.axes.epoch"))
        by_class.set_xlabel(labels("figures.axes.class"))
        histories = [history for history in histories_of(results, defense, architecture)
                     if "lambda_mean" in history]  # fmt: skip
        if not histories:
            say_nothing(over_time, labels)
            say_nothing(by_class, labels)
            continue
        _weights_over_time(over_time, histories, look, knobs)
        _weights_by_class(by_class, histories, look, knobs)
    for row in panels:
        number_axes(row[0], labels, whole=True)
        row[0].set_ylim(bottom=0)
        row[0].set_ylabel(labels("figures.axes.lambda"))
        for panel in row:
            panel.set_axisbelow(True)
    handles = [Line2D([], [], color=look.colour, linewidth=1.6, label=labels("figures.parts.sum"))]
    for _, knob, dashes in PARTS:
        text = labels(f"figures.parts.{knob}")
        handles.append(Line2D([], [], color=INK, linewidth=1, linestyle=dashes, label=text))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _weights_over_time(
    panel: Axes, histories: list[pd.DataFrame], look: Look, knobs: dict[str, Any]
) -> None:
    mean = _over_seeds(histories, "lambda_mean")
    low, high = _over_seeds(histories, "lambda_q10"), _over_seeds(histories, "lambda_q90")
    if not len(low):
        spread = _over_seeds(histories, "lambda_std")
        low, high = (mean - spread).clip(lower=0), mean + spread
    panel.plot(mean.index, mean, color=look.colour, linewidth=1.6)
    if len(low):
        panel.fill_between(low.index, low, high, color=look.colour, alpha=0.18, linewidth=0)
    for column, knob, dashes in PARTS:
        part = _over_seeds(histories, column)
        if len(part) and knob in knobs:
            panel.plot(part.index, knobs[knob] * part, color=INK, linewidth=1, linestyle=dashes)


def _weights_by_class(
    panel: Axes, histories: list[pd.DataFrame], look: Look, knobs: dict[str, Any]
) -> None:
    """The entropy term at the bottom of a bar, the sensitivity term, lighter, on top of it."""
    names = class_columns(histories[0], "lambda")
    bottom = np.zeros(len(names))
    for (column, knob, _), alpha in zip(PARTS, (0.9, 0.4), strict=True):
        stem = column.removesuffix("_mean")
        parts = class_columns(histories[0], stem)
        if knob not in knobs or len(parts) != len(names):
            return
        last = np.array([_over_seeds(histories, part).iloc[-1] for part in parts])
        panel.bar(range(len(names)), knobs[knob] * last, 0.7, bottom, color=look.colour,
                  alpha=alpha)  # fmt: skip
        bottom += knobs[knob] * last
    panel.set_xticks(range(len(names)))


def class_columns(history: pd.DataFrame, stem: str) -> list[str]:
    """The columns of a number by class, such as lambda_0, lambda_1, ..., in their order."""
    found = [name for name in map(str, history.columns) if re.fullmatch(rf"{stem}_\d+", name)]
    return sorted(found, key=lambda name: int(name.rpartition("_")[2]))


PARTS: tuple[tuple[str, str, Any], ...] = (
    ("entropy_mean", "alpha", (0, (4, 1.5))),
    ("sensitivity_mean", "beta", (0, (1, 1.2))),
)


def classes(study: Study, results: Results, labels: Labels) -> Figure:
    """RA of every class as a field of numbers; each defense's worst classes are framed."""
    rows = len(study.axes.defenses)
    figure, panels = panel_grid(
        len(study.axes.architectures), 0.35 + 0.24 * rows, labels, columns=1, width=2 * PANEL_WIDTH
    )
    for panel, architecture in zip(panels, study.axes.architectures, strict=True):
        panel.set_title(labels.name("architectures", architecture))
        _class_field(panel, architecture, study, results, labels)
    panels[-1].set_xlabel(labels("figures.axes.class"))
    return figure


def curve(study: Study, results: Results, labels: Labels) -> Figure:
    """RA over epsilon from the minimum norms, a line for each defense, a mean over the seeds.

    Lone markers at the threat's epsilon are the RA of the bounded attacks and AutoAttack.
    """
    figure, panels = panel_grid(len(study.axes.architectures), 2.6, labels, whole=False)
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
            say_nothing(panel, labels)
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
    legend(figure, styles, labels)
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
        say_nothing(panel, labels)
        return
    panel.set_xticks(range(table.shape[1]), [str(index) for index in table.columns])
    panel.set_xlim(-0.5, table.shape[1] - 0.5)
    panel.set_ylim(len(defenses) - 0.5, -0.5)
    for row, values in enumerate(table.to_numpy(dtype=float)):
        if np.isnan(values).all():
            panel.text(-0.4, row, labels("figures.no_data"), va="center", style="italic")
            continue
        framed = worst(table.iloc[row]).to_numpy()
        for column, value in enumerate(values):
            if not np.isnan(value):
                _box(panel, column, row, value, bool(framed[column]), labels)


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


def histories_of(results: Results, defense: str, architecture: str) -> list[pd.DataFrame]:
    found = (results.histories.get(cell.key) for cell in results.cells_of(defense, architecture))
    return [history for history in found if history is not None]


def _over_seeds(histories: list[pd.DataFrame], column: str) -> pd.Series:
    """Mean of a column over the seeds by epoch; empty if no history has it."""
    curves = [history.set_index("epoch")[column] for history in histories if column in history]
    if not curves:
        return pd.Series(dtype=float)
    return pd.concat(curves, axis=1).mean(axis=1).dropna()
