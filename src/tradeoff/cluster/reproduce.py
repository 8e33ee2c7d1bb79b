"""`tradeoff reproduce`: the cells side by side, then one `dvc repro` over everything.

A cell runs in a git worktree of its own, with DVC's cache shared, so that workers neither wait for
each other's locks nor see each other's files. What a worker computed is moved to the repository
as soon as its cell is done, with its entries of dvc.lock. What reads all cells (transfer, examples,
summary) is done by workers too; the last `dvc repro` checks all of it and runs what is left. If
cells failed, it is the report of the others.
"""

import fcntl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from tradeoff.cluster import lockfile, repair, slurm, worktrees
from tradeoff.cluster.dvclock import alone
from tradeoff.cluster.engines import Engine
from tradeoff.cluster.partial import damage, discard, left_to_do, report_what_is_there
from tradeoff.cluster.plan import Job, Plan, make_plan, sources_of, stage_targets
from tradeoff.cluster.repro import dvc_repro
from tradeoff.cluster.states import State, read_states
from tradeoff.core.files import checkpoints_folder, save_interval
from tradeoff.core.study import Study
from tradeoff.running.words import duration

ATTEMPTS = 3  # of a job whose worker dies
PAUSE = 0.2  # seconds between two looks at the workers


@dataclass
class Matrix:
    """How far the jobs are, and how long they will still take."""

    slots: int
    waiting: list[Job]
    running: dict[str, tuple[Job, float]] = field(default_factory=dict)  # by name, since when
    took: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)

    @property
    def jobs(self) -> int:
        return len(self.waiting) + len(self.running) + len(self.took) + len(self.failed)

    def expected(self, job: Job, states: dict[str, State]) -> float | None:
        """Seconds that a job takes: as last time, else as its like, else as any; None: unknown."""
        last = [states[stage].seconds for stage in job.stages if stage in states]
        if len(last) == len(job.stages) and all(states[s].status == "done" for s in job.stages):
            return sum(last)
        family = job.name.split("-")[1:3]  # architecture and data set
        like = [seconds for name, seconds in self.took.items() if name.split("-")[1:3] == family]
        return mean(like or self.took.values()) if self.took else None

    def left(self, states: dict[str, State], now: float) -> float | None:
        """Seconds until all jobs are done; None if nothing is known yet."""
        work, longest = 0.0, 0.0
        for job, began in self.running.values():
            if (seconds := self.expected(job, states)) is None:
                return None
            rest = max(0.0, seconds - (now - began))
            work, longest = work + rest, max(longest, rest)
        for job in self.waiting:
            if (seconds := self.expected(job, states)) is None:
                return None
            work, longest = work + seconds, max(longest, seconds)
        return max(work / self.slots, longest)


def reproduce(
    root: Path, names: list[str], start_engine: Callable[[], Engine], say: Callable[[str], None]
) -> int:
    """Bring the targets up to date; the exit status, 0 if everything is there.

    Args:
        start_engine: called when there is something for it to do.

    Raises:
        CannotStart, BadParams, BadInterval, DamagedLock: before anything has run.
    """
    save_interval()  # the cells' own: better told now than by each of them
    with only_one(root):
        study = Study.load(root / "params.yaml")
        targets = stage_targets(study, names)
        worktrees.snapshot(root)  # refuses untracked code before any work
        worktrees.end_left_over(root)
        slurm.end_left_over(root, say)  # a queued job would begin in a worktree made anew
        worktrees.clean(root)
        for done in repair.after_a_kill(root):
            say(done)
        with alone(root, say):
            first = list(lockfile.read(root))
        if status := dvc_repro(root, sources_of(study, targets)):
            return status
        plan = make_plan(study, targets, root)
        failed: dict[str, str] = {}
        if plan.jobs or plan.closing:
            say(
                f"{len(plan.jobs)} cells to compute, {plan.fresh} are up to date; "
                f"logs in {logs_folder(root)}; `tradeoff status` in another terminal shows more"
            )
            failed = run_plan(root, study, plan, start_engine(), say)
        if failed:
            say(f"{len(failed)} failed; the others are kept:")
            for name, why in failed.items():
                say(f"  {name}: {why}\n    log: {logs_folder(root) / name}.log")
            report_what_is_there(root, study, plan, failed, say, chapter=not names)
            say("Mend the cause and run the same command again: it goes on from here.")
            return 1
        status = dvc_repro(root, targets if names else ())
        with alone(root, say):
            entries = lockfile.read(root)
            arranged = lockfile.arranged(entries, first, plan.order)
            if list(arranged) != list(entries):
                lockfile.write(arranged, root)
        return status


def run_plan(
    root: Path, study: Study, plan: Plan, engine: Engine, say: Callable[[str], None]
) -> dict[str, str]:
    """Run the cells and then what follows on those that did not fail; what failed and why."""
    try:
        failed = run_jobs(root, plan.jobs, engine, say)
        harm = damage(study, plan, failed)
        discard(root, study, plan, failed, harm)
        return failed | run_jobs(root, left_to_do(plan, harm), engine, say)
    finally:
        # Ctrl-C and SIGTERM come here too; nothing of ours keeps running.
        engine.stop()
        worktrees.clean(root)


def run_jobs(
    root: Path, jobs: tuple[Job, ...], engine: Engine, say: Callable[[str], None]
) -> dict[str, str]:
    """Run jobs until all have ended; the failed ones and why.

    A job whose worker died goes back to the queue, behind the others, up to ATTEMPTS times.
    """
    matrix = Matrix(engine.slots, list(jobs))
    commit, cache = worktrees.snapshot(root), worktrees.cache_folder(root)
    logs_folder(root).mkdir(parents=True, exist_ok=True)
    told = ""
    while matrix.waiting or matrix.running:
        while matrix.waiting and len(matrix.running) < engine.slots:
            job = matrix.waiting.pop(0)
            log = logs_folder(root) / f"{job.name}.log"
            if job.name not in matrix.attempts:
                log.unlink(missing_ok=True)
            folder = worktrees.make(root, commit, cache, job, say)
            engine.start(job.name, (str(folder), job.stages, str(log)))
            matrix.running[job.name] = (job, time.time())
            matrix.attempts[job.name] = matrix.attempts.get(job.name, 0) + 1
        time.sleep(PAUSE)
        for name, status in engine.ended().items():
            _settle(root, matrix, name, status, say)
        told = _show(root, matrix, told)
    return matrix.failed


def _settle(
    root: Path, matrix: Matrix, name: str, status: int | None, say: Callable[[str], None]
) -> None:
    """Book a job that has ended: done, failed, or to be run again."""
    job, began = matrix.running.pop(name)
    now = time.time()
    if status == 0:
        worktrees.adopt(root, root / worktrees.CELLS / name, job.stages, say)
        matrix.took[name] = now - began
        states = read_states(root)
        left = matrix.left(states, now)
        about = f", about {duration(left)} left" if left else ""
        place = f"[{len(matrix.took)}/{matrix.jobs}]"
        say(f"{place} {name}: done in {duration(now - began)}{about}")
        return
    states = read_states(root)
    errors = [
        states[stage].error
        for stage in job.stages
        if stage in states and states[stage].status == "failed" and states[stage].began >= began
    ]
    lost = status is None or (not errors and _was_cut(states, job, began))
    if lost and matrix.attempts[name] < ATTEMPTS:
        say(f"{name}: its worker died; it will be run again from where it was")
        matrix.waiting.append(job)
    elif lost:
        matrix.failed[name] = f"its worker died {ATTEMPTS} times"
    else:
        matrix.failed[name] = errors[0] if errors else last_line(logs_folder(root) / f"{name}.log")
    if name in matrix.failed:
        say(f"{name}: failed: {matrix.failed[name]}")


def _was_cut(states: dict[str, State], job: Job, began: float) -> bool:
    """Whether a stage of the job stopped without saying that it ends."""
    own = [states[stage] for stage in job.stages if stage in states]
    return any(s.status in ("running", "interrupted") and s.began >= began for s in own)


def _show(root: Path, matrix: Matrix, told: str) -> str:
    """On a terminal, keep one line with what runs now and how long it will take."""
    if not sys.stderr.isatty():
        return told
    states, now = read_states(root), time.time()
    parts = []
    for name, (job, _) in matrix.running.items():
        doing = [states[s].doing for s in job.stages if s in states and states[s].running]
        parts.append(f"{name} {doing[0] if doing else 'starts'}")
    left = matrix.left(states, now)
    line = f"[{len(matrix.took)}/{matrix.jobs}] " + "; ".join(parts)
    line += f"; about {duration(left)} left" if left else ""
    if line != told:
        print(f"\r\033[K{line[:150]}", end="", file=sys.stderr, flush=True)
    return line


def logs_folder(root: Path) -> Path:
    """Where each job's log is."""
    return root / checkpoints_folder() / "logs"


def last_line(log: Path) -> str:
    """What a log ends with."""
    lines = log.read_text("utf-8", "replace").split("\n") if log.exists() else []
    return next((line for line in reversed(lines) if line.strip()), "no word of why")


@contextmanager
def only_one(root: Path) -> Iterator[None]:
    """Keep a second `tradeoff reproduce` out; the lock goes with the process, however it ends.

    Raises:
        CannotStart: one is running.
    """
    path = root / ".dvc" / "tmp" / "reproduce.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise worktrees.CannotStart(
                "another `tradeoff reproduce` runs here; `tradeoff status` shows what it does"
            ) from None
        yield
