"""`tradeoff reproduce`: the stale stages side by side, then one `dvc repro` over everything.

Workers run the scripts in the working tree, the stages of a cell in one process. DVC is told what
they did as they go on, and the last `dvc repro` finds nothing to do, or does what is left.
"""

import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from tradeoff.cluster import repair, slurm, worker
from tradeoff.cluster.clone import only_one
from tradeoff.cluster.engines import Engine
from tradeoff.cluster.pipeline import Pipeline
from tradeoff.cluster.plan import make_jobs, stage_targets
from tradeoff.cluster.schedule import Schedule, logs_folder
from tradeoff.core.files import save_interval
from tradeoff.core.study import Study


def reproduce(
    root: Path, names: list[str], start_engine: Callable[[], Engine], say: Callable[[str], None]
) -> int:
    """Bring the targets up to date; the exit status, 0 if everything is there.

    Args:
        names: none of them is everything.
        start_engine: called when there is something for it to do.

    Raises:
        CannotStart, BadCode, BadParams, BadInterval, DamagedLock: before anything has run.
    """
    save_interval()  # the cells' own: better told now than by each of them
    with only_one(root):
        study = Study.load(root / "params.yaml")
        targets = stage_targets(study, names)
        slurm.end_left_over(root, say)
        for done in repair.after_a_kill(root):
            say(done)
        if not _run_jobs(root, study, targets, start_engine, say):
            say("Mend the cause and run the same command again: it goes on from here.")
            return 1
        return _dvc_repro(root, targets)


def _run_jobs(
    root: Path,
    study: Study,
    targets: tuple[str, ...],
    start_engine: Callable[[], Engine],
    say: Callable[[str], None],
) -> bool:
    """Run what is stale; whether all of it is there now."""
    pipeline = Pipeline(root, study, targets, say)
    try:
        jobs = make_jobs(study, pipeline)
        if not jobs:
            return True
        count = sum(job.is_cell for job in jobs)
        say(
            f"{count} cells to compute, and {len(jobs) - count} stages of data sets and reports; "
            f"logs in {logs_folder(root)}; `tradeoff status` in another terminal shows more"
        )
        schedule = Schedule(root, study, pipeline, start_engine(), say, tuple(jobs))
        try:
            schedule.run()
        finally:
            # Ctrl-C and SIGTERM come here too; nothing of ours keeps running.
            schedule.engine.stop()
    finally:
        pipeline.close()
    _tell_failures(schedule)
    return not schedule.failed


def _tell_failures(schedule: Schedule) -> None:
    """Say which jobs failed and why, and what the reports are of."""
    if not schedule.failed:
        return
    schedule.say(f"{len(schedule.failed)} failed; the others are kept:")
    for name, why in schedule.failed.items():
        schedule.say(f"  {name}: {why}\n    log: {logs_folder(schedule.root) / name}.log")
    for job in schedule.jobs:
        kind, _, dataset = job.name.partition("@")
        if kind != "report":
            continue
        if job.name in schedule.done:
            if any(job.dataset == dataset for job in schedule.jobs if job.name in schedule.failed):
                page = f"reports/{dataset}/report.{schedule.study.report.languages[0]}.html"
                schedule.say(f"{dataset}: the report is of the cells that are there: {page}")
        elif job.name in schedule.skipped:
            schedule.say(f"{dataset}: there is no new report: {schedule.skipped[job.name]}")


def _dvc_repro(root: Path, targets: Iterable[str]) -> int:
    """`dvc repro` as a command; shown is what it does, not what it skips."""
    with subprocess.Popen(
        ["dvc", "repro", *targets],
        cwd=root,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if not line.endswith(" didn't change, skipping\n"):
                    print(line, end="", flush=True)
        except KeyboardInterrupt:
            worker.stop([process])
            raise
    return process.returncode
