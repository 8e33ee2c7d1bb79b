"""The first page of the reports: which data sets are there, in every language on one page."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tradeoff.core.study import Study
from tradeoff.reporting.answer import answer
from tradeoff.reporting.beside import Beside
from tradeoff.reporting.coverage import missing
from tradeoff.reporting.html import render_html
from tradeoff.reporting.labels import LANGUAGES, load_labels
from tradeoff.reporting.results import Results
from tradeoff.reporting.sentences import by_mean, named
from tradeoff.reporting.view import View


def build_index(
    study: Study,
    evaluated: Mapping[str, Results],
    templates: Path,
    languages: Sequence[str],
    beside: Sequence[Beside] = (),
) -> bytes:
    """reports/index.html.

    Args:
        evaluated: the results of each data set that has any.
        beside: the studies beside the table.
    """
    parts = []
    for language in languages:
        labels = load_labels(language, templates)
        absent = [labels.name("datasets", name) for name in study.axes.datasets
                  if name not in evaluated]  # fmt: skip
        parts.append({
            "language": language, "language_name": LANGUAGES[language][0], "t": labels,
            "entries": [_entry(View(study, results, labels)) for results in evaluated.values()],
            "missing": absent,
        })  # fmt: skip
    return render_html("index.html.j2", templates, {"parts": parts, "beside": beside}).encode()


def _entry(view: View) -> dict[str, object]:
    """A data set: what the study answers there, how many of its cells there are, who leads in RA on
    each architecture, and what is missing."""
    results, dataset = view.results, view.results.dataset.name
    return {
        "dataset": dataset,
        "name": view.labels.name("datasets", dataset),
        "evaluated": len(results.expected) - len(results.missing_cells),
        "all": len(results.expected),
        "answer": answer(view),
        "leaders": [f"{view.network(architecture)}: {named(view, *ranked[0])}"
                    for architecture in view.architectures
                    if (ranked := by_mean(view, architecture, "RA"))],
        "missing": missing(view),
    }  # fmt: skip
