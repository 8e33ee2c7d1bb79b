"""What a report says of cells that are missing: which and why, and which means rest on fewer seeds
than the study has."""

from collections.abc import Iterable
from typing import Literal

from tradeoff.core.study import Cell
from tradeoff.reporting.table import Remarks
from tradeoff.reporting.view import Place, View

Kind = Literal["cells", "norms", "curve", "transfer", "histories"]
"""Which table a mean is computed from; of transfer its seeds are those of the targets."""

DID_NOT_RUN = "did not run"
"""What the table `missing` says of a cell that never began."""


def missing(view: View) -> dict[str, object] | None:
    """The note on the cells that are not evaluated: as `head` how many, then the `reasons`; None if
    all are. Of what the study has not begun there is one sentence, in place of a reason a cell."""
    results = view.results
    absent = results.missing_cells
    if not absent:
        return None
    failed = set(results.missing[results.missing["error"] != DID_NOT_RUN]["cell"])
    told = [cell for cell in absent if cell in view.expected or cell.key in failed]
    sentences = [view("missing.head", missing=len(absent), all=len(results.expected)),
                 *not_begun(view), *([view("missing.why")] if told else [])]  # fmt: skip
    return {
        "head": " ".join(sentences),
        "reasons": [text for cell in told for text in reasons(view, cell)],
    }


def not_begun(view: View) -> list[str]:
    """A sentence on the networks and seeds of which nothing is evaluated, if there are any."""
    axes = view.study.axes
    names = [view.network(name) for name in axes.architectures if name not in view.architectures]
    names += [view("missing.seed", seed=seed) for seed in axes.seeds if seed not in view.seeds]
    return [view("missing.not_begun", names=view.labels.enumerate(names))] if names else []


def reasons(view: View, cell: Cell) -> list[str]:
    """Why a cell is not evaluated: the stages of it that failed, with their errors."""
    rows = view.results.missing[view.results.missing["cell"] == cell.key]
    texts = []
    for stage, error in zip(rows["stage"], map(str, rows["error"]), strict=True):
        # An error is shown as it is; what stands for none, in the report's language.
        label = f"missing.errors.{error.replace(' ', '_')}"
        texts.append(view("missing.reason", stage=stage,
                          error=view.labels.texts.get(label, error)))  # fmt: skip
    return texts or [view("missing.unknown", cell=cell.key)]


def coverage(view: View) -> list[str]:
    """How many of the data set's cells are evaluated and have a training history; which are not."""
    results = view.results
    count, dataset = len(view.expected), view.labels.name("datasets", results.dataset.name)
    text = [
        view(f"coverage.{kind}", there=count - len(absent), all=count, dataset=dataset,
             missing=_keys(absent))
        for kind, missing_there in (("cells", results.missing_cells),
                                    ("histories", results.missing_histories))
        if (absent := [cell for cell in missing_there if cell in view.expected])
    ]  # fmt: skip
    return [*(text or [view("coverage.complete", all=count, dataset=dataset)]), *not_begun(view)]


def gaps(view: View) -> dict[str, list[str]]:
    """By table: which evaluated cells it lacks, and of transfer also which models were no source;
    empty if none."""
    results = view.results
    evaluated, text = results.keys_in("cells"), dict[str, list[str]]()
    for table in ("norms", "curve", "masking", "transfer"):
        lacking = evaluated - results.keys_in(table)
        absent = [cell for cell in results.expected if cell.key in lacking]
        text[table] = [
            view(f"gaps.{table}", there=len(evaluated) - len(absent), all=len(evaluated),
                 missing=_keys(absent))
        ] if absent else []  # fmt: skip
    sources = set(results.transfer["source"])
    seeds = {cell.seed for cell in view.expected if cell.key in sources}
    asked = [cell for cell in view.expected if cell.seed in seeds]
    idle = [cell for cell in asked if cell.key not in sources]
    if idle:
        text["transfer"].append(
            view("gaps.sources", there=len(asked) - len(idle), all=len(asked), missing=_keys(idle))
        )
    return text


def _keys(cells: list[Cell]) -> str:
    return ", ".join(cell.key for cell in cells)


def known_seeds(view: View, kind: Kind, place: Place) -> list[int]:
    """The seeds that a mean rests on, in the study's order."""
    keys = view.results.keys_in(kind)
    return [cell.seed for cell in view.cells(place) if cell.key in keys]


def seed_remarks(view: View, kind: Kind = "cells") -> Remarks:
    """For each place that lacks seeds: on how many its means rest."""
    remarks = {}
    for architecture, defense in view.places():
        seeds = known_seeds(view, kind, (architecture, defense))
        absent = [str(seed) for seed in view.seeds if seed not in seeds]
        if absent:
            none = "notes.no_seed" if kind == "cells" else "notes.nothing"
            text = view(
                "notes.seeds" if seeds else none,
                defense=view.name(defense), architecture=view.network(architecture),
                there=len(seeds), all=view.labels.seeds(len(view.seeds)),
                missing=view.labels.enumerate(absent),
            )  # fmt: skip
            remarks[architecture, defense] = [text]
    return remarks


def seed_sentence(view: View, kind: Kind, defenses: Iterable[str] | None = None) -> str:
    """Which means of a figure or of a list rest on fewer seeds; empty if none do."""
    chosen = view.defenses if defenses is None else list(defenses)
    parts = []
    for architecture, defense in view.places():
        count = len(known_seeds(view, kind, (architecture, defense)))
        if defense in chosen and count < len(view.seeds):
            parts.append(view("notes.fewer_part", there=count, all=len(view.seeds),
                              architecture=view.network(architecture),
                              defense=view.name(defense)))  # fmt: skip
    return view("notes.fewer", parts="; ".join(parts)) if parts else ""
