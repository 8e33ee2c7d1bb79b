"""The first page of the reports: which data sets are there, in every language on one page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from tradeoff.core.study import Study
from tradeoff.reporting.estimates import estimate
from tradeoff.reporting.html import render_html
from tradeoff.reporting.labels import LANGUAGES, Labels, load_labels
from tradeoff.reporting.missing import Missing, missing, valued
from tradeoff.reporting.results import Results
from tradeoff.reporting.vector import colour_rules


@dataclass(frozen=True)
class Entry:
    """A data set: how many of its cells there are, who leads in RA on each architecture, and what
    is missing."""

    dataset: str
    name: str
    there: int
    all: int
    leaders: list[str]
    missing: Missing | None


@dataclass(frozen=True)
class Part:
    """The page in one language."""

    language: str
    language_name: str
    t: Labels
    entries: list[Entry]
    missing: list[str]


def build_index(
    study: Study, evaluated: Mapping[str, Results], templates: Path, languages: Sequence[str]
) -> bytes:
    """reports/index.html.

    Args:
        evaluated: the results of each data set that has any.
    """
    parts = []
    for language in languages:
        labels = load_labels(language, templates)
        entries = [_entry(study, name, results, labels) for name, results in evaluated.items()]
        absent = [labels.name("datasets", name) for name in study.axes.datasets
                  if name not in evaluated]  # fmt: skip
        parts.append(Part(language, LANGUAGES[language][0], labels, entries, absent))
    light, dark = colour_rules()
    values = {"parts": parts, "light": Markup(light), "dark": Markup(dark)}
    return render_html("index.html.j2", templates, values).encode()


def _entry(study: Study, dataset: str, results: Results, labels: Labels) -> Entry:
    leaders = []
    for architecture in study.axes.architectures:
        means = {
            defense: one
            for defense in study.axes.defenses
            if (one := estimate(results.group(defense, architecture)["RA"])) is not None
        }
        if means:
            lead = max(means, key=lambda name: means[name].mean)
            value = valued(means[lead], len(study.axes.seeds), labels)
            named = labels("sentences.named", name=labels.name("defenses", lead), value=value)
            leaders.append(f"{labels.name('architectures', architecture)}: {named}")
    there = len(results.expected) - len(results.missing_cells)
    return Entry(dataset, labels.name("datasets", dataset), there, len(results.expected), leaders,
                 missing(results, labels))  # fmt: skip
