"""A weight for each image, over training and by class: the column lambda of a history, and the
terms that it is the sum of, lambda_TERM. Any defense that records them has this figure."""

import re

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tradeoff.reporting.estimates import WEIGHT, estimate_of
from tradeoff.reporting.pictures import drawing
from tradeoff.reporting.pictures.picture import Picture, picture
from tradeoff.reporting.style import INK, Look
from tradeoff.reporting.view import Place, View

DASHES = ((0, (4, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
SHADES = (0.9, 0.4, 0.2)


def pictures(view: View) -> list[Picture]:
    quantiles = any("lambda_q10" in history for history in view.results.histories.values())
    band = view("figures.lambda.band_quantiles" if quantiles else "figures.lambda.band_sd")
    figures = []
    for name in weighted_defenses(view):
        terms = [term_name(view, name, term) for term in terms_of(view, name)]
        text = view("figures.lambda.terms", terms=view.labels.enumerate(terms)) if terms else ""
        figures.append(
            picture(view, "lambda", draw, description, name, part=name, name=view.name(name),
                    means_of="histories", band=band, terms=text)
        )  # fmt: skip
    return figures


def weighted_defenses(view: View) -> list[str]:
    """The defenses whose training wrote a weight lambda for each image."""
    return [name for name in view.defenses
            if any(weights_of(view, (architecture, name)) for architecture in view.architectures)
            ]  # fmt: skip


def weights_of(view: View, place: Place) -> list[pd.DataFrame]:
    """The histories of a place that have lambda."""
    return [history for history in view.histories(place) if "lambda_mean" in history]


def terms_of(view: View, defense: str) -> list[str]:
    """The terms of a defense's lambda, in the order of its history."""
    columns = [
        str(column) for architecture in view.architectures
        for history in weights_of(view, (architecture, defense)) for column in history
    ]  # fmt: skip
    matches = (re.fullmatch(r"lambda_(\w+)_mean", column) for column in dict.fromkeys(columns))
    return [match[1] for match in matches if match]


def term_name(view: View, defense: str, term: str) -> str:
    return view.labels.name(f"words_of.{defense}", term)


def draw(view: View, defense: str) -> Figure:
    """lambda and its terms over training; below, the terms of each class in the last epoch.

    Lines are means over the seeds. The band holds the middle 80 % of the images, or where the
    history has no quantiles one standard deviation.
    """
    columns = len(view.architectures)
    figure = Figure(figsize=(drawing.PANEL_WIDTH * max(2, columns), 4.6), layout="constrained")
    panels = figure.subplots(2, columns, squeeze=False, sharex="row", sharey="row")
    look, terms = view.looks[defense], terms_of(view, defense)
    for over_time, by_class, architecture in zip(*panels, view.architectures, strict=True):
        over_time.set_title(view.network(architecture))
        over_time.set_xlabel(view("figures.axes.epoch"))
        by_class.set_xlabel(view("figures.axes.class"))
        histories = weights_of(view, (architecture, defense))
        if histories:
            _over_time(over_time, histories, look, terms)
            _by_class(by_class, histories, look, terms)
        else:
            drawing.say_nothing(view, over_time)
            drawing.say_nothing(view, by_class)
    for row in panels:
        drawing.number_axes(view, row[0], whole=True)
        row[0].set_ylim(bottom=0)
        row[0].set_ylabel(view("figures.axes.lambda"))
        for panel in row:
            panel.set_axisbelow(True)
    handles = [Line2D([], [], color=look.colour, linewidth=1.6, label=view("figures.lambda.mean"))]
    handles += [Line2D([], [], color=INK, linewidth=1, linestyle=dashes,
                       label=term_name(view, defense, term))
                for term, dashes in zip(terms, DASHES, strict=False)]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _over_time(panel: Axes, histories: list[pd.DataFrame], look: Look, terms: list[str]) -> None:
    mean = over_seeds(histories, "lambda_mean")
    low, high = over_seeds(histories, "lambda_q10"), over_seeds(histories, "lambda_q90")
    if not len(low):
        spread = over_seeds(histories, "lambda_std")
        low, high = (mean - spread).clip(lower=0), mean + spread
    panel.plot(mean.index, mean, color=look.colour, linewidth=1.6)
    if len(low):
        panel.fill_between(low.index, low, high, color=look.colour, alpha=0.18, linewidth=0)
    for term, dashes in zip(terms, DASHES, strict=False):
        part = over_seeds(histories, f"lambda_{term}_mean")
        panel.plot(part.index, part, color=INK, linewidth=1, linestyle=dashes)


def _by_class(panel: Axes, histories: list[pd.DataFrame], look: Look, terms: list[str]) -> None:
    """The terms stacked in a bar for each class, or lambda itself if it has none."""
    stems = [f"lambda_{term}" for term in terms] or ["lambda"]
    names = class_columns(histories[0], "lambda")
    bottom = np.zeros(len(names))
    for stem, shade in zip(stems, SHADES, strict=False):
        parts = class_columns(histories[0], stem)
        last = np.array([over_seeds(histories, part).iloc[-1] for part in parts])
        panel.bar(range(len(parts)), last, 0.7, bottom, color=look.colour, alpha=shade)
        bottom = bottom + last
    panel.set_xticks(range(len(names)))


def class_columns(history: pd.DataFrame, stem: str) -> list[str]:
    """The columns of a number by class, such as lambda_0, lambda_1, ..., in their order."""
    names = [name for name in map(str, history.columns) if re.fullmatch(rf"{stem}_\d+", name)]
    return sorted(names, key=lambda name: int(name.rpartition("_")[2]))


def over_seeds(histories: list[pd.DataFrame], column: str) -> pd.Series:
    """Mean of a column over the seeds by epoch; empty if no history has it."""
    curves = [history.set_index("epoch")[column] for history in histories if column in history]
    return pd.concat(curves, axis=1).mean(axis=1).dropna() if curves else pd.Series(dtype=float)


def description(view: View, defense: str) -> str:
    """lambda's mean in the first and in the last epoch, by architecture."""
    parts = [view("figures.lambda.alt", defense=view.name(defense))]
    for architecture in view.architectures:
        curves = [curve for history in weights_of(view, (architecture, defense))
                  if len(curve := history["lambda_mean"].dropna())]  # fmt: skip
        first = estimate_of(float(curve.iloc[0]) for curve in curves)
        last = estimate_of(float(curve.iloc[-1]) for curve in curves)
        name = view.network(architecture)
        if first and last:
            parts.append(view("figures.lambda.alt_part", architecture=name,
                              first=view.labels.formatted(first.mean, WEIGHT),
                              last=view.labels.formatted(last.mean, WEIGHT)))  # fmt: skip
        else:
            parts.append(f"{name}: {view('words.nothing')}.")
    return " ".join(parts)
