"""The figures of a data set with what is said below them and in place of them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from markupsafe import Markup
from matplotlib.figure import Figure

from tradeoff.core.study import Study
from tradeoff.reporting import descriptions as describe
from tradeoff.reporting import figures, figures_cost, figures_examples
from tradeoff.reporting.accuracy import image_counts
from tradeoff.reporting.cost import cost_is_known
from tradeoff.reporting.evidence import norm_images
from tradeoff.reporting.labels import Labels
from tradeoff.reporting.latex import label
from tradeoff.reporting.missing import Kind, seed_sentence
from tradeoff.reporting.panels import drawing
from tradeoff.reporting.results import Results
from tradeoff.reporting.vector import lay_out, to_inline_svg

# The figures of means over seeds, and what these are of.
MEANS: dict[str, Kind] = {
    "tradeoff": "cells", "classes": "cells", "cost": "cells", "curve": "curve",
    "transfer": "transfer", "lambda": "histories",
}  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """A figure: its key within the data set, how to draw it, its texts."""

    key: str
    title: str
    caption: str
    description: str
    draw: Callable[[], Figure]

    def drawn(self) -> Figure:
        """The figure, laid out."""
        with drawing():
            return lay_out(self.draw())

    @property
    def svg(self) -> Markup:
        """The figure for a page."""
        with drawing():
            return to_inline_svg(self.drawn(), f"figure-{self.key}", self.title, self.description)


def pictures(study: Study, results: Results, labels: Labels) -> dict[str, list[Picture]]:
    """The figures by subject; a subject has one for each architecture or defense, just one, or
    none where the results lack it."""

    def picture(
        subject: str, draw: Callable[[], Figure], description: str, part: str = "",
        shown: str = "", **values: str,
    ) -> Picture:  # fmt: skip
        fewer = ""
        if subject in MEANS:
            own = [part] if subject == "lambda" else None
            fewer = seed_sentence(MEANS[subject], study, results, labels, own)
        caption = labels(f"figures.{subject}.caption", part=shown, **values)
        return Picture(
            f"{subject}-{label(part)}" if part else subject,
            labels(f"figures.{subject}.title", part=shown),
            f"{caption} {fewer}" if fewer else caption,
            description,
            draw,
        )

    everything = (study, results, labels)
    architectures = [
        (name, labels.name("architectures", name)) for name in study.axes.architectures
    ]
    found = {
        "tradeoff": [
            picture("tradeoff", partial(figures.tradeoff, *everything),
                    describe.tradeoff(*everything))
        ],
        "training": [
            picture("training", partial(figures.training, name, *everything),
                    describe.training(name, *everything), name, shown)
            for name, shown in architectures
        ],
        "lambda": [
            picture("lambda", partial(figures.weights, name, *everything),
                    describe.weights(name, *everything), name, labels.name("defenses", name),
                    band=labels(f"figures.lambda.{_band(results)}"))
            for name in figures.adaptive_defenses(study, results)
        ],
        "classes": [
            picture("classes", partial(figures.classes, *everything), describe.classes(*everything))
        ],
        "curve": [], "transfer": [], "examples": [], "cost": [], "sweep": [],
    }  # fmt: skip
    if len(results.curve):
        found["curve"] = [
            picture("curve", partial(figures.curve, *everything), describe.curve(*everything),
                    images=image_counts("images", results, labels),
                    norms=norm_images(results, labels))
        ]  # fmt: skip
    if len(results.transfer):
        found["transfer"] = [
            picture("transfer", partial(figures.transfer, results, labels),
                    describe.transfer(results, labels))
        ]  # fmt: skip
    if len(results.examples) and results.sheet is not None:
        factor = labels.number(round(float(results.examples["amplification"].iloc[0]), 1))
        there = set(results.examples["architecture"])
        found["examples"] = [
            picture("examples", partial(figures_examples.examples, name, *everything),
                    describe.examples(name, *everything), name, shown, factor=factor)
            for name, shown in architectures if name in there
        ]  # fmt: skip
    if cost_is_known("seconds", study, results):
        found["cost"] = [
            picture("cost", partial(figures_cost.costs, *everything), describe.costs(*everything))
        ]
    if len(results.swept_proposal()):
        found["sweep"] = [
            picture("sweep", partial(figures_cost.sweep, *everything), describe.sweep(labels))
        ]
    return found


def _band(results: Results) -> str:
    quantiles = any("lambda_q10" in history for history in results.histories.values())
    return "band_quantiles" if quantiles else "band_sd"
