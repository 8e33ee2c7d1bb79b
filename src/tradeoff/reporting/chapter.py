"""The chapter of a thesis, of all data sets that are evaluated, as a part of a LaTeX document."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tradeoff.core.study import Study
from tradeoff.reporting.beside import Beside
from tradeoff.reporting.contents import contents
from tradeoff.reporting.labels import LANGUAGES, Labels, load_labels
from tradeoff.reporting.latex import TeX, escape, label, render_latex
from tradeoff.reporting.pictures import Picture
from tradeoff.reporting.published import load_published
from tradeoff.reporting.references import (
    Reference,
    Subject,
    cited,
    load_references,
    material,
    measures,
)
from tradeoff.reporting.results import Results
from tradeoff.reporting.setting import describe_defenses, grouped, radius
from tradeoff.reporting.table import Block, Column, Number, Row, Table
from tradeoff.reporting.view import View


def build_chapter(
    study: Study,
    evaluated: Mapping[str, Results],
    language: str,
    templates: Path,
    beside: Sequence[Beside] = (),
) -> dict[str, bytes]:
    """The chapter's files by their path in the folder reports: itself, a document around it, and
    the figures in a folder of the language.

    Args:
        evaluated: the results of each data set that has any.
        beside: the studies beside the table.

    Raises:
        BadLabels: the label file lacks a text.
    """
    labels = load_labels(language, templates)
    files: dict[str, bytes] = {}
    parts, published = [], load_published(templates)
    views = {name: View(study, results, labels) for name, results in evaluated.items()}
    for dataset, view in views.items():
        part = contents(view, published)
        for group in part["pictures"].values():
            for picture in group:
                files[str(figure_path(dataset, picture.key, language))] = picture.pdf
        parts.append(part)
    references = load_references(templates)
    everything = list(evaluated.values())
    values = {
        "t": labels,
        "cite": partial(cite, references),
        "sources": {
            "material": sources(material(study, everything, labels), references, labels),
            "measures": sources(measures(everything, labels), references, labels),
        },
        "tex": TeX,
        "see": partial(see, labels),
        "figure_path": lambda dataset, key: figure_path(dataset, key, language),
        "parts": parts,
        "beside": beside,
        "defenses": describe_defenses(study, labels),
        "sizes": size_table(study, views, labels),
        **_introduction(study, views, labels),
    }
    chapter = f"chapter.{language}.tex"
    files[chapter] = render_latex("chapter.tex.j2", templates, values).encode()
    document = {"chapter": TeX(chapter), "babel": TeX(LANGUAGES[language][1]),
                "bibliography": bibliography(files[chapter], references)}  # fmt: skip
    standalone = render_latex("standalone.tex.j2", templates, document)
    files[f"standalone.{language}.tex"] = standalone.encode()
    return files


def figure_path(dataset: str, key: str, language: str) -> TeX:
    """Where a figure lies in the folder reports."""
    return TeX(f"figures/{language}/{label(dataset)}-{key}.pdf")


def see(labels: Labels, dataset: str, table: str, pictures: Sequence[Picture] = ()) -> TeX:
    """ "See Table 1, Figure 2 and Figure 3." by their labels; no table if its key is empty."""
    places = [("words.the_table", "tab", table)] if table else []
    places += [("words.the_figure", "fig", picture.key) for picture in pictures]
    items = [
        f"{escape(labels(word))}~\\ref{{{kind}:{label(dataset, key)}}}"
        for word, kind, key in places
    ]
    verb = labels("words.see_many" if len(items) > 1 else "words.see")
    return TeX(f"{escape(verb)} {labels.enumerate(items)}.")


def cite(references: Sequence[Reference], subject: str) -> TeX:
    """The citation behind what is known as "defenses.at" or the like; empty without one."""
    keys = [reference.key for reference in references if subject in reference.of]
    return TeX(f"~\\cite{{{','.join(keys)}}}") if keys else TeX("")


def sources(named: Sequence[Subject], references: Sequence[Reference], labels: Labels) -> TeX:
    """A sentence that says where things were published; empty of none."""
    items = [
        f"{escape(labels.enumerate(names))}~\\cite{{{reference.key}}}"
        for reference, names in cited(named, references)
    ]
    return TeX(f"{escape(labels('chapter.sources'))} {'; '.join(items)}." if items else "")


def bibliography(chapter: bytes, references: Sequence[Reference]) -> TeX:
    """The entries that a chapter cites, for a document without BibTeX; empty without any."""
    keys = {key for keys in re.findall(r"\\cite{([^}]*)}", chapter.decode())
            for key in keys.split(",")}  # fmt: skip
    entries = [f"\\bibitem{{{reference.key}}} {escape(reference.text)}" for reference in references
               if reference.key in keys]  # fmt: skip
    if not entries:
        return TeX("")
    # As a section, which begins no page.
    lines = [r"\let\chapter\section", r"\begin{thebibliography}{99}", r"\raggedright", *entries,
             r"\end{thebibliography}"]  # fmt: skip
    return TeX("\n".join(lines))


def _introduction(study: Study, views: Mapping[str, View], labels: Labels) -> dict[str, Any]:
    names = [labels.name("datasets", name) for name in views]
    missing = [labels.name("datasets", name) for name in study.axes.datasets
               if name not in views]  # fmt: skip
    return {
        "intro": labels(
            "chapter.intro",
            defenses=labels.enumerate([labels.name("defenses", n) for n in study.axes.defenses]),
            datasets=labels.enumerate(names) or labels("words.nothing"),
        ),
        "statistics": labels(
            "chapter.statistics",
            **labels.levels(study.statistics),
            proposal=labels.name("defenses", study.axes.proposal or labels("words.proposal")),
        ),
        "absent": labels("limits.datasets", missing=labels.enumerate(missing)) if missing else "",
    }


def size_table(study: Study, views: Mapping[str, View], labels: Labels) -> Table:
    """Data sets down; images, threat and thousands of parameters across."""
    rows = []
    for dataset, view in views.items():
        results = view.results
        images = [results.size("images", part) for part in ("train", "validation", "test")]
        counts = results.cells["images"].dropna()
        entries = [*images, int(counts.min()) if len(counts) else None]
        numbers = [Number("" if count is None else grouped(count)) for count in entries]
        threat = results.dataset.threat
        norm = labels.name("norms", threat.norm)
        numbers.append(Number(f"{norm}, {radius(view, threat.epsilon)}"))
        for name in study.axes.architectures:
            count = results.size("parameters", name)
            numbers.append(Number("" if count is None else grouped(round(count / 1000))))
        rows.append(Row(labels.name("datasets", dataset), numbers))
    keys = ("train", "validation", "test", "evaluated", "threat")
    headers = [
        *(labels(f"chapter.{key}") for key in keys),
        *(labels.name("architectures", name) for name in study.axes.architectures),
    ]
    return Table("sizes", labels("tables.sizes"), labels("words.dataset"),
                 list(map(Column, headers)), [Block("", rows)])  # fmt: skip
