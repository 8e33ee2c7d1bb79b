"""When cells have failed: what can be done without them, and the report of what is there."""

import shutil
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from tradeoff.cluster.plan import Job, Plan
from tradeoff.cluster.repro import dvc_repro
from tradeoff.core.study import Study


@dataclass(frozen=True)
class Damage:
    """The data sets that failed cells belong to.

    Attributes:
        partial: of which a report is wanted and some cells are there.
        lost: the others.
    """

    partial: tuple[str, ...]
    lost: tuple[str, ...]


def damage(study: Study, plan: Plan, failed: Collection[str]) -> Damage:
    """What becomes of the data sets if these jobs fail."""
    counts = Counter(c.dataset.name for c in study.cells() if c.key in failed)
    partial: list[str] = []
    lost: list[str] = []
    for name, count in counts.items():
        some = count < len(study.cells(name)) and f"report@{name}" in plan.targets
        (partial if some else lost).append(name)
    return Damage(tuple(partial), tuple(lost))


def left_to_do(plan: Plan, harm: Damage) -> tuple[Job, ...]:
    """The closing jobs that have something to work on.

    Not the summary of part of a data set, which takes seconds: see `report_what_is_there`.
    """
    found = []
    for job in plan.closing:
        stage, _, dataset = job.name.partition("@")
        if dataset not in harm.lost and not (dataset in harm.partial and stage == "summarize"):
            found.append(job)
    return tuple(found)


def discard(root: Path, study: Study, plan: Plan, failed: Collection[str], harm: Damage) -> None:
    """Remove what failed cells have left from before: it must not pass for a result.

    DVC does the same before it runs a stage; it ran these elsewhere, in worktrees.
    """
    for job in plan.jobs:
        if job.name in failed and study.cell(job.name).dataset.name in harm.partial:
            for path in (root / out for out in job.outdated):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)


def report_what_is_there(
    root: Path,
    study: Study,
    plan: Plan,
    failed: Collection[str],
    say: Callable[[str], None],
    *,
    chapter: bool,
) -> None:
    """Build the reports among the targets although jobs failed, with a word on each in question.

    Args:
        chapter: whether chapter and index are wanted too.
    """
    harm = damage(study, plan, failed)
    wanted = [target.partition("@")[2] for target in plan.targets if target.startswith("report@")]
    closing = {job.name.partition("@")[2] for job in plan.closing if job.name in failed}
    if whole := [n for n in wanted if n not in {*harm.partial, *harm.lost, *closing}]:
        dvc_repro(root, [f"report@{name}" for name in whole])
    for name in wanted:
        page = f"reports/{name}/report.{study.report.languages[0]}.html"
        if name in harm.lost:
            say(f"{name}: there is nothing to report, all cells failed; its results stay as before")
        elif name in closing or (name in harm.partial and _report(root, name)):
            say(f"{name}: there is no new report, for the reason above")
        elif name in harm.partial:
            say(f"{name}: the report is of the cells that are there: {page}")
    if chapter and wanted:
        dvc_repro(root, ["--single-item", "chapter", "index"])


def _report(root: Path, dataset: str) -> int:
    """Summary and report of what is there: by themselves, or DVC would run the failed cells."""
    # Errors are no dependency of the summary: without force it could keep those of last time.
    if status := dvc_repro(root, ["--force", "--single-item", f"summarize@{dataset}"]):
        return status
    # What workers have done of these is up to date.
    stages = (f"{stage}@{dataset}" for stage in ("transfer", "examples", "report"))
    return dvc_repro(root, ["--single-item", *stages])
