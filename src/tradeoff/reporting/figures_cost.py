"""The figures of cost and of a sweep of the proposal's knobs."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tradeoff.core.study import Study
from tradeoff.reporting.cost import DRAWN, cost, cost_is_known
from tradeoff.reporting.estimates import estimate, write
from tradeoff.reporting.labels import Labels
from tradeoff.reporting.panels import PANEL_WIDTH, legend, number_axes, say_nothing
from tradeoff.reporting.results import Results
from tradeoff.reporting.style import INK, PAPER, SPARE, looks


def costs(study: Study, results: Results, labels: Labels) -> Figure:
    """RA against network passes and against seconds per epoch, a row for each architecture."""
    styles, architectures = looks(study.axes.defenses), study.axes.architectures
    kinds = [kind for kind in DRAWN if cost_is_known(kind, study, results)]
    figure = Figure(figsize=(PANEL_WIDTH * 2, 2.2 * len(architectures) + 0.5), layout="constrained")
    panels = figure.subplots(len(architectures), len(kinds), squeeze=False, sharex="col",
                             sharey="row")  # fmt: skip
    for row, architecture in zip(panels, architectures, strict=True):
        for panel, kind in zip(row, kinds, strict=True):
            panel.set_title(labels.name("architectures", architecture))
            panel.set_axisbelow(True)
            found = False
            for defense, look in styles.items():
                price = estimate(cost(kind, defense, architecture, results))
                robust = estimate(results.group(defense, architecture)["RA"])
                if price is None or robust is None:
                    continue
                found = True
                panel.errorbar(
                    price.mean, 100 * robust.mean, xerr=price.sd,
                    yerr=None if robust.sd is None else 100 * robust.sd, marker=look.marker,
                    markersize=7, markeredgecolor=PAPER, markeredgewidth=0.8, color=look.colour,
                    elinewidth=1, capsize=2, zorder=3,
                )  # fmt: skip
            if not found:
                say_nothing(panel, labels)
            number_axes(panel, labels)
        row[0].set_ylabel(labels("figures.axes.RA"))
    for panel, kind in zip(panels[-1], kinds, strict=True):
        panel.set_xlabel(labels(f"cost.axes.{kind}"))
        panel.set_xlim(left=0)
    legend(figure, styles, labels)
    return figure


def sweep(study: Study, results: Results, labels: Labels) -> Figure:
    """NA and RA of the proposal over alpha, a line for each beta, a column per architecture."""
    table = results.swept_proposal()
    names = [name for name in study.axes.architectures if name in set(table["architecture"])]
    betas = sorted(table["beta"].unique())
    figure = Figure(figsize=(PANEL_WIDTH * 2, 3.0), layout="constrained")
    panels = figure.subplots(1, max(2, len(names)), squeeze=False, sharey=True)[0]
    for panel in panels[len(names) :]:
        panel.remove()
    for panel, architecture in zip(panels, names, strict=False):
        panel.set_title(labels.name("architectures", architecture))
        panel.set_xlabel(labels("figures.axes.alpha"))
        for place, beta in enumerate(betas):
            look = SPARE[place % len(SPARE)]
            rows = table[(table["architecture"] == architecture) & (table["beta"] == beta)]
            means: pd.DataFrame = 100 * rows.groupby("alpha")[["NA", "RA"]].mean()
            for metric, dashes in (("NA", "-"), ("RA", (0, (3, 1.5)))):
                panel.plot(means.index, means[metric], color=look.colour, marker=look.marker,
                           markersize=5, linewidth=1.1, linestyle=dashes)  # fmt: skip
        number_axes(panel, labels)
    panels[0].set_ylabel(labels("figures.axes.accuracy"))
    handles = [
        Line2D([], [], color=INK, label=labels("metric_names_short.NA")),
        Line2D([], [], color=INK, linestyle=(0, (3, 1.5)), label=labels("metric_names_short.RA")),
    ]
    for place, beta in enumerate(betas):
        look = SPARE[place % len(SPARE)]
        text = f"β = {write(f'{beta:g}', labels.mark)}"
        handles.append(Line2D([], [], color=look.colour, marker=look.marker, label=text))
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure
