"""The pages of a data set's report, one per language, as bytes."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tradeoff.core.study import Study
from tradeoff.reporting.cells import cell_groups
from tradeoff.reporting.contents import contents
from tradeoff.reporting.html import render_html
from tradeoff.reporting.labels import LANGUAGES, load_labels
from tradeoff.reporting.published import load_published
from tradeoff.reporting.references import cited, load_references, material, measures, subjects
from tradeoff.reporting.results import Results
from tradeoff.reporting.setting import describe_defenses
from tradeoff.reporting.view import View

# In the order of the page, the answer first; those of OPTIONAL are left out where the results lack
# their figures or sentences.
SECTIONS = (
    "results", "differences", "adapting", "published", "setting", "defenses", "coverage", "attacks",
    "classes", "norms", "examples", "gradients", "transfer", "masking", "training", "lambda",
    "cost", "limits", "software", "references", "cells",
)  # fmt: skip
OPTIONAL = ("adapting", "published", "examples", "gradients", "lambda")


def build_report(
    study: Study,
    results: Results,
    templates: Path,
    languages: Iterable[str] = tuple(LANGUAGES),
) -> dict[str, bytes]:
    """All files of the folder reports/DATASET by their path in it.

    Nothing of it depends on when, where or by whom it is built.

    Raises:
        BadLabels: a label file lacks a text.
    """
    files = {}
    languages = list(languages)
    references, published = load_references(templates), load_published(templates)
    for language in languages:
        view = View(study, results, load_labels(language, templates))
        values: dict[str, Any] = contents(view, published)
        named = [*material(study, [results], view.labels),
                 *subjects(view.labels, "defenses", view.defenses),
                 *measures([results], view.labels)]  # fmt: skip
        values |= {
            "t": view.labels,
            "language": language,
            "others": {code: LANGUAGES[code][0] for code in languages if code != language},
            "defenses": describe_defenses(study, view.labels),
            "seeds": view.seeds,
            "sections": [name for name in SECTIONS if name not in OPTIONAL
                         or values.get(name) or values["tables"].get(name)
                         or values["pictures"].get(name)],
            "references": cited(named, references),
            "groups": cell_groups(view),
        }  # fmt: skip
        page = render_html("report.html.j2", templates, values)
        files[f"report.{language}.html"] = page.encode()
    return files
