"""What a report says of cells that are missing: which and why, and which means rest on fewer seeds
than the study has."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from tradeoff.core.study import Cell, Study
from tradeoff.reporting.estimates import Estimate
from tradeoff.reporting.labels import Labels
from tradeoff.reporting.results import Results
from tradeoff.reporting.tables import Remarks

Kind = Literal["cells", "norms", "curve", "transfer", "histories"]
"""What means are of: a table of Results, of transfer the attacked models."""


@dataclass(frozen=True)
class Missing:
    """The note on top: how many cells are missing, then a text for each reason."""

    head: str
    reasons: list[str]


def missing(results: Results, labels: Labels) -> Missing | None:
    """The note on the cells that are not evaluated; None if all are."""
    absent = results.missing_cells
    if not absent:
        return None
    head = labels("missing.head", missing=len(absent), all=len(results.expected))
    return Missing(head, [text for cell in absent for text in reasons(cell, results, labels)])


def reasons(cell: Cell, results: Results, labels: Labels) -> list[str]:
    """Why a cell is not evaluated: the stages of it that failed, with their errors."""
    rows = results.missing[results.missing["cell"] == cell.key]
    found = [
        labels("missing.reason", stage=stage, error=_error(str(error), labels))
        for stage, error in zip(rows["stage"], rows["error"], strict=True)
    ]
    return found or [labels("missing.unknown", cell=cell.key)]


def _error(error: str, labels: Labels) -> str:
    """An error is shown as it is; what stands for none, in the report's language."""
    return labels.texts.get(f"missing.errors.{error.replace(' ', '_')}", error)


def seeds_there(kind: Kind, defense: str, architecture: str, results: Results) -> list[int]:
    """The seeds that a mean rests on, in the study's order."""
    if kind == "histories":
        there = set(results.histories)
    elif kind == "transfer":
        there = set(results.transfer["target"])
    else:
        absent = {
            cell.key for cell in [*results.missing_cells, *results.lacking(getattr(results, kind))]
        }
        there = {cell.key for cell in results.expected} - absent
    return [cell.seed for cell in results.cells_of(defense, architecture) if cell.key in there]


def seed_remarks(study: Study, results: Results, labels: Labels, kind: Kind = "cells") -> Remarks:
    """For each (defense, architecture) that lacks seeds: on how many its means rest."""
    remarks = {}
    seeds = study.axes.seeds
    for architecture in study.axes.architectures:
        for defense in study.axes.defenses:
            there = seeds_there(kind, defense, architecture, results)
            absent = [seed for seed in seeds if seed not in there]
            if absent:
                none = "notes.no_seed" if kind == "cells" else "notes.nothing"
                text = labels(
                    "notes.seeds" if there else none,
                    defense=labels.name("defenses", defense),
                    architecture=labels.name("architectures", architecture),
                    there=len(there),
                    all=len(seeds),
                    missing=labels.enumerate([str(seed) for seed in absent]),
                )
                remarks[defense, architecture] = [text]
    return remarks


def seed_sentence(
    kind: Kind, study: Study, results: Results, labels: Labels,
    defenses: Iterable[str] | None = None,
) -> str:  # fmt: skip
    """Which means of a figure or of a list rest on fewer seeds; empty if none do."""
    seeds = len(study.axes.seeds)
    parts = []
    for architecture in study.axes.architectures:
        for defense in study.axes.defenses if defenses is None else defenses:
            there = len(seeds_there(kind, defense, architecture, results))
            if there < seeds:
                name = labels.name("architectures", architecture)
                parts.append(labels("notes.fewer_part", there=there, all=seeds, architecture=name,
                                    defense=labels.name("defenses", defense)))  # fmt: skip
    return labels("notes.fewer", parts="; ".join(parts)) if parts else ""


def valued(one: Estimate, seeds: int, labels: Labels) -> str:
    """ "85.3 ± 0.4 %", and if it rests on fewer than so many seeds, on how many."""
    return labels.estimate(one) + of_seeds(one.seeds, seeds, labels)


def of_seeds(there: int, seeds: int, labels: Labels) -> str:
    """ "; 2 of 3 seeds" behind a value; empty if it rests on all of them."""
    return labels("sentences.of_seeds", there=there, all=seeds) if there < seeds else ""
