"""The literature: who published what a study names, from report_templates/references.bib."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tradeoff.core.study import Study
from tradeoff.reporting.labels import Labels
from tradeoff.reporting.results import Results
from tradeoff.reporting.tellings import load_tellings

FILE = "references.bib"
METHODS = ("ece", "fosc", "holm", "satterthwaite")
ENTRY = re.compile(r"^@\w+{([\w-]+),\n(.*?)^}", re.MULTILINE | re.DOTALL)
FIELD = re.compile(r"^ *(\w+) = {+(.*?)}+,$", re.MULTILINE)


class BadReferences(Exception):
    """An entry of the file of references lacks something; the message names it."""


@dataclass(frozen=True)
class Reference:
    """A publication as `text`; `of` names what it is about as label files do: "attacks.pgd"."""

    key: str
    text: str
    of: frozenset[str]


@dataclass(frozen=True)
class Subject:
    """Something that a report names, and under what references may know it."""

    name: str
    known_as: frozenset[str]


@dataclass(frozen=True)
class Cited:
    """A reference and what of a report it is about."""

    reference: Reference
    names: list[str]


def load_references(folder: Path) -> list[Reference]:
    """All entries in the order of the file, which is that of authors.

    Raises:
        BadReferences: an entry lacks an author, a title, a year, where it appeared or what it is
            about.
    """
    found = []
    for key, body in ENTRY.findall((folder / FILE).read_text("utf-8")):
        fields = dict(FIELD.findall(body))
        place = next((fields[name] for name in ("booktitle", "journal", "institution",
                                                "howpublished") if name in fields), "")  # fmt: skip
        of = {f"defenses.{name}" for name, telling in load_tellings().items()
              if telling.source == key}  # fmt: skip
        of |= set(fields["of"].split(", ")) if "of" in fields else set()
        lacking = [name for name in ("author", "title", "year") if not fields.get(name)]
        lacking += [] if of else ["of"]
        if lacking or not place:
            raise BadReferences(f"{FILE}: {key}: has no {(lacking or ['booktitle'])[0]}")
        authors = ", ".join(" ".join(reversed(name.split(", ")))
                            for name in fields["author"].split(" and "))  # fmt: skip
        if "volume" in fields:
            pages = fields["pages"].replace("--", "–")  # noqa: RUF001
            place = f"{place} {fields['volume']}({fields['number']}), {pages}"
        text = f"{authors}. {fields['title']}. {place}, {fields['year']}."
        found.append(Reference(key, text, frozenset(of)))
    return found


def material(study: Study, evaluated: Iterable[Results], labels: Labels) -> list[Subject]:
    """Data sets and networks."""
    names = [("datasets", one.dataset.name) for one in evaluated]
    names += [("architectures", name) for name in study.axes.architectures]
    return [Subject(labels.name(kind, name), frozenset({f"{kind}.{name}"}))
            for kind, name in names]  # fmt: skip


def defenses(study: Study, labels: Labels) -> list[Subject]:
    return [Subject(labels.name("defenses", name), frozenset({f"defenses.{name}"}))
            for name in study.axes.defenses]  # fmt: skip


def measures(evaluated: Iterable[Results], labels: Labels) -> list[Subject]:
    """Attacks, by their own names and those of their modules, parts of AutoAttack, and methods."""
    found = {}
    for one in evaluated:
        for suite in one.dataset.suites.values():
            for attack in suite.attacks:
                known = {f"attacks.{attack.name}", f"attacks.{attack.module}"}
                found[labels.name("attacks", attack.name)] = frozenset(known)
        for part in one.autoattack_parts:
            found[labels.name("attacks", part)] = frozenset({f"attacks.{part}"})
    for method in METHODS:
        found[labels.name("methods", method)] = frozenset({f"methods.{method}"})
    return [Subject(name, known) for name, known in found.items()]


def cited(subjects: Sequence[Subject], references: Sequence[Reference]) -> list[Cited]:
    """The references of these subjects, in the order of the references."""
    found = [
        Cited(one, [subject.name for subject in subjects if subject.known_as & one.of])
        for one in references
    ]
    return [one for one in found if one.names]
