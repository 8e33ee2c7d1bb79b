"""The pages of a data set's report, one per language, as bytes."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tradeoff.core.study import Study
from tradeoff.reporting.cells import cell_groups, coverage_grid
from tradeoff.reporting.contents import contents
from tradeoff.reporting.html import render_html
from tradeoff.reporting.labels import LANGUAGES, load_labels
from tradeoff.reporting.references import cited, defenses, load_references, material, measures
from tradeoff.reporting.results import Results
from tradeoff.reporting.setting import describe_defenses
from tradeoff.reporting.vector import colour_rules

# In the order of the page; those of OPTIONAL are left out where the results lack them.
SECTIONS = (
    "setting", "defenses", "coverage", "results", "differences", "attacks", "classes", "norms",
    "examples", "transfer", "masking", "training", "lambda", "cost", "ablation", "limits",
    "software", "references", "cells",
)  # fmt: skip
OPTIONAL = {"examples": "examples", "lambda": "lambda", "ablation": "sweep"}


def build_report(
    study: Study,
    dataset: str,
    results: Results,
    templates: Path,
    languages: Iterable[str] = tuple(LANGUAGES),
) -> dict[str, bytes]:
    """All files of the folder reports/DATASET by their path in it.

    Nothing of it depends on when, where or by whom it is built.

    Raises:
        BadParams: the study has no such data set.
        BadLabels: a label file lacks a text.
    """
    files = {}
    light, dark = colour_rules()
    languages = list(languages)
    references = load_references(templates)
    for language in languages:
        labels = load_labels(language, templates)
        found = contents(study, dataset, results, labels)
        values = found | {
            "t": labels,
            "language": language,
            "others": {code: LANGUAGES[code][0] for code in languages if code != language},
            "defenses": describe_defenses(study, labels),
            "seeds": study.axes.seeds,
            "sections": [name for name in SECTIONS if shown(name, found)],
            "grid": coverage_grid(study, results, labels),
            "references": cited(
                [
                    *material(study, [results], labels),
                    *defenses(study, labels),
                    *measures([results], labels),
                ],
                references,
            ),
            "groups": cell_groups(study, results, labels),
            "light": Markup(light),
            "dark": Markup(dark),
        }
        page = render_html("report.html.j2", templates, values)
        files[f"report.{language}.html"] = page.encode()
    return files


def shown(section: str, found: dict[str, Any]) -> bool:
    """Whether a page has a section."""
    return section not in OPTIONAL or bool(found["pictures"][OPTIONAL[section]])
