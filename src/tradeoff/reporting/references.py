"""The literature: who published what a study names, from report_templates/references.bib."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bibtexparser.entrypoint import parse_string
from bibtexparser.middlewares import LatexDecodingMiddleware, SeparateCoAuthors

from tradeoff.core.study import Study
from tradeoff.reporting.labels import Labels
from tradeoff.reporting.results import Results
from tradeoff.reporting.tellings import load_tellings

FILE = "references.bib"
METHODS = ("ece", "extraction", "fosc", "holm", "satterthwaite")
PLACES = ("booktitle", "journal", "institution", "howpublished")  # where it appeared


class BadReferences(Exception):
    """An entry of the file of references lacks something; the message names it."""


@dataclass(frozen=True)
class Reference:
    """A publication as `text`; `of` names what it is about as label files do: "attacks.pgd"."""

    key: str
    text: str
    of: frozenset[str]


Subject = tuple[str, set[str]]
"""The name of something in a report, and under what references may know it."""


def load_references(folder: Path) -> list[Reference]:
    """All entries in the order of the file, which is that of authors.

    Raises:
        BadReferences: the file is no BibTeX, or an entry lacks an author, a title, a year, where
            it appeared or what it is about.
    """
    tellings = load_tellings().items()
    references = []
    for key, fields in _entries(folder / FILE):
        place = next((fields[name] for name in PLACES if fields.get(name)), "")
        of = {f"defenses.{name}" for name, telling in tellings if telling.source == key}
        of |= set(fields["of"].split(", ")) if "of" in fields else set()
        required = {name: fields.get(name) for name in ("author", "title", "year")}
        required |= {"of": of, "booktitle": place}
        if lacking := [name for name, value in required.items() if not value]:
            raise BadReferences(f"{FILE}: {key}: has no {lacking[0]}")
        authors = ", ".join(" ".join(reversed(name.split(", "))) for name in fields["author"])
        number = f"({fields['number']})" if fields.get("number") else ""
        place += f" {fields['volume']}{number}" if fields.get("volume") else ""
        pages = fields.get("pages", "").replace("--", "–")  # noqa: RUF001
        place += f", {pages}" if pages else ""
        text = f"{authors}. {fields['title']}. {place}, {fields['year']}."
        references.append(Reference(key, text, frozenset(of)))
    return references


def _entries(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The key and the fields of each entry; authors as a list, LaTeX's accents as letters."""
    library = parse_string(
        path.read_text("utf-8"),
        append_middleware=[LatexDecodingMiddleware(), SeparateCoAuthors()],
    )
    for block in library.failed_blocks:
        raise BadReferences(f"{path.name}, line {(block.start_line or 0) + 1}: {block.error}")
    for entry in library.entries:
        yield entry.key, {name: field.value for name, field in entry.fields_dict.items()}


def subjects(labels: Labels, kind: str, names: Iterable[str]) -> list[Subject]:
    """What label files and references know by the same key."""
    return [(labels.name(kind, name), {f"{kind}.{name}"}) for name in names]


def material(study: Study, evaluated: Iterable[Results], labels: Labels) -> list[Subject]:
    """Data sets and networks."""
    datasets = [results.dataset.name for results in evaluated]
    return [*subjects(labels, "datasets", datasets),
            *subjects(labels, "architectures", study.axes.architectures)]  # fmt: skip


def measures(evaluated: Iterable[Results], labels: Labels) -> list[Subject]:
    """Attacks, by their own names and those of their modules, parts of AutoAttack, and methods."""
    keys_of: dict[str, set[str]] = {}
    for results in evaluated:
        for suite in results.dataset.suites.values():
            for attack in suite.attacks:
                keys = {f"attacks.{attack.name}", f"attacks.{attack.module}"}
                keys_of[labels.name("attacks", attack.name)] = keys
        keys_of.update(subjects(labels, "attacks", results.autoattack_parts))
        if not results.gradients.empty:
            keys_of.update(subjects(labels, "methods", ["alignment"]))
    keys_of.update(subjects(labels, "methods", METHODS))
    return list(keys_of.items())


def cited(
    named: Sequence[Subject], references: Sequence[Reference]
) -> list[tuple[Reference, list[str]]]:
    """The references that are about any of these subjects, with the names of those, in the order of
    the references."""
    names_of = [
        (reference, [name for name, keys in named if keys & reference.of])
        for reference in references
    ]
    return [(reference, names) for reference, names in names_of if names]
