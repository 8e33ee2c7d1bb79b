"""Which jobs there are for the targets given, and which of them wait for others."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from tradeoff.cluster.pipeline import Pipeline
from tradeoff.core.schema import BadParams
from tradeoff.core.study import Cell, Study

# Each works on a whole data set; all but the first read what its cells have made.
DATASET_STAGES = ("prepare", "transfer", "examples", "summarize", "report")


@dataclass(frozen=True)
class Job:
    """What one worker does: the stages of a cell, or one stage of any other kind.

    Attributes:
        name: the cell's, or the stage's.
        stages: what is to be run, in this order.
        needs: the stages of other jobs that have to end before.
        dataset: the data set that a cell or stage belongs to; None: all of them.
        is_cell: whether these are the stages of a cell.
    """

    name: str
    stages: tuple[str, ...]
    needs: frozenset[str]
    dataset: str | None
    is_cell: bool


def cell_stages(study: Study, cell: Cell) -> list[str]:
    """DVC's names of a cell's stages, the training first; of a base that is no row only that."""
    stages = [_training(cell)]
    if cell.defense in study.axes.defenses:
        stages += [f"attack@{cell.key}-{name}" for name in cell.dataset.suites]
    if cell.defense in study.axes.certified:
        stages.append(f"certify@{cell.key}")
    return stages


def upstream(cell: Cell) -> list[str]:
    """The stages that a cell stands on: the preparation of its data, the training of its bases."""
    bases = [name for base in cell.bases.values() for name in (*upstream(base), _training(base))]
    return list(dict.fromkeys([f"prepare@{cell.dataset.name}", *bases]))


def _training(cell: Cell) -> str:
    return f"{cell.stage}@{cell.key}"


def stage_targets(study: Study, names: Iterable[str]) -> tuple[str, ...]:
    """DVC's names of targets: a data set stands for its report, a cell for its stages.

    Raises:
        BadParams: there is no such target.
    """
    cells = {cell.key: cell_stages(study, cell) for cell in study.trained_cells()}
    datasets = study.axes.datasets
    valid = {f"{stage}@{dataset}" for stage in DATASET_STAGES for dataset in datasets}
    valid |= {stage for stages in cells.values() for stage in stages}
    targets: list[str] = []
    for name in names:
        if name in datasets:
            targets.append(f"report@{name}")
        elif name in cells:
            targets += cells[name]
        elif name in valid:
            targets.append(name)
        else:
            near = difflib.get_close_matches(name, [*datasets, *cells, *valid], 1)
            raise BadParams(
                f"{name!r} is no target; a target is a data set ({', '.join(datasets)}), a cell "
                "such as " + f"{next(iter(cells))}, or a stage such as report@{datasets[0]}"
                f"{f'. Did you mean {near[0]}?' if near else ''}"
            )
    return tuple(dict.fromkeys(targets))


def make_jobs(study: Study, pipeline: Pipeline) -> list[Job]:
    """The stale stages, those of a cell together: they share a process, which imports torch once.

    A stage waits for single stages, so a cell need not wait for the attacks on its bases.
    """
    cells = {name: cell for cell in study.trained_cells() for name in cell_stages(study, cell)}
    stale = dict.fromkeys(pipeline.stale())
    groups: dict[str, list[str]] = {}
    for stage in stale:
        name = cells[stage].key if stage in cells else stage
        groups.setdefault(name, []).append(stage)
    jobs = []
    for name, stages in groups.items():
        needs = {need for stage in stages for need in pipeline.needs[stage] if need in stale}
        is_cell = stages[0] in cells
        suffix = name.partition("@")[2]
        dataset = suffix if suffix in study.axes.datasets else None
        if is_cell:
            dataset = cells[stages[0]].dataset.name
        jobs.append(Job(name, tuple(stages), frozenset(needs - {*stages}), dataset, is_cell))
    return jobs
