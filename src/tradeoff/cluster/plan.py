"""Which cells have to be computed for the targets given, as DVC sees it."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

from tradeoff.core.schema import BadParams
from tradeoff.core.study import Cell, Study

CELL_STAGES = ("train", "attack")
CLOSING_STAGES = ("transfer", "examples", "summarize")  # each reads all cells of a data set


@dataclass(frozen=True)
class Job:
    """What one worker does: the stages of a cell that the targets need, or a closing stage.

    Attributes:
        name: the cell, or the closing stage.
        stages: in the order in which they run.
        inputs: what they read and do not write themselves.
        outdated: what they will write anew, there or not.
    """

    name: str
    stages: tuple[str, ...]
    inputs: tuple[Path, ...]
    outdated: tuple[Path, ...]


@dataclass(frozen=True)
class Plan:
    """What `tradeoff reproduce` has to do.

    Attributes:
        targets: what the last `dvc repro` is given.
        sources: the stages that cells start from, such as prepare@digits.
        jobs: the cells with something to compute.
        closing: what follows when all of these are done, each by itself.
        fresh: how many cells the targets need that are done.
        order: all stages that the targets need, as DVC would run them one after another.
    """

    targets: tuple[str, ...]
    sources: tuple[str, ...]
    jobs: tuple[Job, ...]
    closing: tuple[Job, ...]
    fresh: int
    order: tuple[str, ...]


def stage_targets(study: Study, names: Iterable[str]) -> tuple[str, ...]:
    """DVC's names of targets: a data set stands for its report, a cell for its stages.

    Raises:
        BadParams: there is no such target.
    """
    cells = {cell.key: cell for cell in study.cells()}
    datasets = study.axes.datasets
    flow = ("prepare", *CLOSING_STAGES, "report")
    known = {f"{stage}@{dataset}" for stage in flow for dataset in datasets}
    known |= {stage for cell in cells.values() for stage in cell_stages(cell)}
    found: list[str] = []
    for name in names or datasets:
        if name in datasets:
            found.append(f"report@{name}")
        elif name in cells:
            found += cell_stages(cells[name])
        elif name in known:
            found.append(name)
        else:
            allowed = [*datasets, *cells, *known]
            near = difflib.get_close_matches(name, allowed, 1)
            raise BadParams(
                f"{name!r} is no target; a target is a data set ({', '.join(datasets)}), a cell "
                "such as " + f"{next(iter(cells))}, or a stage such as report@{datasets[0]}"
                f"{f'. Did you mean {near[0]}?' if near else ''}"
            )
    return tuple(dict.fromkeys(found))


def cell_stages(cell: Cell) -> list[str]:
    """DVC's names of a cell's stages."""
    return [f"train@{cell.key}", *(f"attack@{cell.key}-{name}" for name in cell.dataset.suites)]


def make_plan(study: Study, targets: tuple[str, ...], folder: Path) -> Plan:
    """Ask DVC what is stale. Sources must have been reproduced before.

    Raises:
        DvcException: dvc.yaml, dvc.lock or params.yaml cannot be read.
    """
    from dvc.repo import Repo
    from dvc.repo.reproduce import get_active_graph, plan_repro

    with Repo(str(folder)) as repo, repo.lock:
        chosen = [stage for target in targets for stage in repo.stage.collect(target)]
        steps = plan_repro(get_active_graph(repo.index.graph), chosen)
        by_name: dict[str, Any] = {stage.addressing: stage for stage in steps}
        jobs, closing, fresh = [], [], 0
        touched = set()  # data sets with cells to compute
        for cell in study.cells():
            own = [by_name[name] for name in cell_stages(cell) if name in by_name]
            if any(stale := [_stale(stage) for stage in own]):
                # All of them rest on the first, the training.
                changed = own if stale[0] else list(compress(own, stale))
                jobs.append(_job(cell.key, own, changed))
                touched.add(cell.dataset.name)
            elif own:
                fresh += 1
        for name, stage in by_name.items():
            kind, _, dataset = name.partition("@")
            if kind in CLOSING_STAGES and (dataset in touched or _stale(stage)):
                closing.append(_job(name, [stage], [stage]))
    sources = tuple(name for name in by_name if name.startswith("prepare@"))
    return Plan(targets, sources, tuple(jobs), tuple(closing), fresh, tuple(by_name))


def _job(name: str, stages: list[Any], changed: list[Any]) -> Job:
    written = {out.def_path for stage in stages for out in stage.outs}
    read = dict.fromkeys(dep.def_path for stage in stages for dep in stage.deps)
    inputs = tuple(Path(path) for path in read if path not in written)
    outdated = tuple(Path(out.def_path) for stage in changed for out in stage.outs)
    return Job(name, tuple(stage.addressing for stage in stages), inputs, outdated)


def sources_of(study: Study, targets: tuple[str, ...]) -> tuple[str, ...]:
    """The prepare stages that the targets rest on, from their names alone."""
    names = [target.partition("@")[2].split("-") for target in targets]
    used = {name for parts in names for name in parts}
    return tuple(f"prepare@{dataset}" for dataset in study.axes.datasets if dataset in used)


def _stale(stage: Any) -> bool:
    """Whether DVC would run the stage; one whose inputs are not there yet certainly."""
    if any(not out.exists for out in stage.outs):
        return True
    try:
        return bool(stage.changed())
    except OSError:
        return True
