"""The first page of the reports: which data sets are there, in every language on one page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tradeoff.core.study import Study
from tradeoff.reporting.answer import answer
from tradeoff.reporting.coverage import Missing, missing
from tradeoff.reporting.html import render_html
from tradeoff.reporting.labels import LANGUAGES, Labels, load_labels
from tradeoff.reporting.results import Results
from tradeoff.reporting.sentences import by_mean, named
from tradeoff.reporting.view import View


@dataclass(frozen=True)
class Entry:
    """A data set: what the study answers there, how many of its cells there are, who leads in RA on
    each architecture, and what is missing."""

    dataset: str
    name: str
    evaluated: int
    all: int
    answer: list[str]
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
        entries = [_entry(View(study, results, labels)) for results in evaluated.values()]
        absent = [labels.name("datasets", name) for name in study.axes.datasets
                  if name not in evaluated]  # fmt: skip
        parts.append(Part(language, LANGUAGES[language][0], labels, entries, absent))
    return render_html("index.html.j2", templates, {"parts": parts}).encode()


def _entry(view: View) -> Entry:
    leaders = [
        f"{view.network(architecture)}: {named(view, *known[0])}"
        for architecture in view.architectures
        if (known := by_mean(view, architecture, "RA"))
    ]
    results = view.results
    dataset, count = results.dataset.name, len(results.expected)
    evaluated = count - len(results.missing_cells)
    return Entry(dataset, view.labels.name("datasets", dataset), evaluated, count,
                 answer(view), leaders,
                 missing(view))  # fmt: skip
