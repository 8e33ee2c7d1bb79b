"""Running jobs on an engine: each when what it needs is done, and again if its worker dies.

A stage counts as done once DVC knows its result, which is told as soon as its script has ended: a
kill costs the stages that run, and no other.
"""

import shutil
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from dvc.exceptions import DvcException

from tradeoff.cluster.engines import Engine
from tradeoff.cluster.expected import seconds_left
from tradeoff.cluster.pipeline import Pipeline
from tradeoff.cluster.plan import Job
from tradeoff.cluster.states import State, read_state, read_states, script_name
from tradeoff.core.files import checkpoints_folder
from tradeoff.core.study import Study
from tradeoff.running.words import duration

ATTEMPTS = 3  # of a job whose worker dies
PAUSE = 0.2  # seconds between two looks at the workers


@dataclass
class Running:
    """A job at work.

    Attributes:
        before: when each stage had begun the last time, by its script's name.
        told: the stages that DVC was told of, whether it could take them or not.
    """

    job: Job
    began: float
    before: dict[str, float]
    told: set[str] = field(default_factory=set)


@dataclass
class Schedule:
    """Jobs that wait, run, and have ended.

    Attributes:
        done: stages that DVC knows the results of.
        absent: stages that will have no result, because their job failed or could not start.
        failed: jobs, and why.
        skipped: jobs that sum up what is not there, and why.
        took: seconds of the jobs that are done.
    """

    root: Path
    study: Study
    pipeline: Pipeline
    engine: Engine
    say: Callable[[str], None]
    jobs: tuple[Job, ...]
    waiting: list[Job] = field(default_factory=list)
    running: dict[str, Running] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    took: dict[str, float] = field(default_factory=dict)

    def run(self) -> None:
        """Run all jobs until they have ended, one way or the other."""
        self.waiting, line = list(self.jobs), ""
        logs_folder(self.root).mkdir(parents=True, exist_ok=True)
        while self.waiting or self.running:
            for job in self._ready():
                if len(self.running) == self.engine.slots:
                    break
                self.waiting.remove(job)
                self._start(job)
            time.sleep(max(PAUSE, len(self.running) / 100))
            for name in list(self.running):
                self._note_finished(name)
            for name, status in self.engine.ended().items():
                self._settle(name, status)
            line = self._show(line)

    def _ready(self) -> list[Job]:
        return [job for job in self.waiting if job.needs <= self.done | self.absent]

    def _start(self, job: Job) -> None:
        """Start what is left of a job once DVC has been asked; or do without it."""
        absent = job.needs & self.absent
        if absent and (why := self._prevented(job, absent)):
            self.absent.update(job.stages)
            (self.failed if job.is_cell else self.skipped)[job.name] = why
            return
        if absent:
            self._remove_leftovers(job.dataset)
        elif job.name not in self.attempts:
            job = self._restore(job)
        if not job.stages:
            self._count(job, "unchanged, or taken from DVC's cache")
            return
        log = logs_folder(self.root) / f"{job.name}.log"
        if job.name not in self.attempts:
            log.unlink(missing_ok=True)
        self.attempts[job.name] = self.attempts.get(job.name, 0) + 1
        states = [read_state(self.root, stage) for stage in job.stages]
        before = {state.stage: state.began for state in states if state is not None}
        self.pipeline.watch(job.stages)
        steps = [(stage, self.pipeline.command(stage)) for stage in job.stages]
        self.running[job.name] = Running(job, time.time(), before)
        self.engine.start(job.name, (str(self.root), steps, str(log)))

    def _restore(self, job: Job) -> Job:
        """A job without the first stages that need no run."""
        for number, stage in enumerate(job.stages):
            if not self.pipeline.restore(stage):
                return replace(job, stages=job.stages[number:])
            self.done.add(stage)
        return replace(job, stages=())

    def _prevented(self, job: Job, absent: frozenset[str]) -> str:
        """Why a job cannot run without the results of some stages; "" if it can.

        What sums a data set up does without some of its cells, though not without all.
        """
        cells = {stage for other in self.jobs if other.is_cell for stage in other.stages}
        if job.dataset and not job.is_cell and not self.some_cells(job.dataset):
            return f"all cells of {job.dataset} failed; its results stay as before"
        indispensable = absent if job.is_cell else absent - cells if job.dataset else set()
        return f"it needs {min(indispensable)}" if indispensable else ""

    def some_cells(self, dataset: str) -> bool:
        """Whether any row of a data set's table is there."""
        return any(cell.key not in self.failed for cell in self.study.cells(dataset))

    def _remove_leftovers(self, dataset: str | None) -> None:
        """Remove what failed cells have left from before: it must not pass for a result. DVC does
        the same before it runs a stage."""
        for job in self.jobs:
            if job.name in self.failed and job.is_cell and job.dataset == dataset:
                for stage in set(job.stages) - self.done:
                    for path in (self.root / out for out in self.pipeline.outputs(stage)):
                        if path.is_dir():
                            shutil.rmtree(path)
                        else:
                            path.unlink(missing_ok=True)

    def _note_finished(self, name: str) -> None:
        """Tell DVC of the stages of a job at work that have ended well."""
        entry, finished = self.running[name], []
        for stage in entry.job.stages:
            state = read_state(self.root, stage)
            if not state or state.status != "done" or state.began == entry.before.get(state.stage):
                break
            finished.append(stage)
        self._tell(entry, finished)

    def _tell(self, entry: Running, finished: Iterable[str]) -> None:
        """Tell DVC of finished stages, each once."""
        stages = [stage for stage in finished if stage not in entry.told]
        entry.told.update(stages)
        if not stages:
            return
        try:
            changed = self.pipeline.commit(stages)
        except (DvcException, OSError) as error:
            self.say(f"{entry.job.name}: DVC cannot take its results: {error}")
            return
        if changed:
            self.say(f"{', '.join(changed)}: not kept, what it reads was changed while it ran")
        self.done.update(set(stages) - set(changed))

    def _settle(self, name: str, status: int | None) -> None:
        """Book a job that has ended: done, failed, or to be run again."""
        entry = self.running.pop(name)
        if status == 0:
            self._tell(entry, entry.job.stages)
        rest = tuple(stage for stage in entry.job.stages if stage not in self.done)
        job = replace(entry.job, stages=rest)
        if not rest:
            self._count(job, f"done in {duration(time.time() - entry.began)}", entry.began)
            return
        states = [read_state(self.root, stage) for stage in rest]
        new = [s for s in states if s and s.began != entry.before.get(s.stage)]
        errors = [state.error for state in new if state.status == "failed"]
        died = status is None or any(s.status in ("running", "interrupted") for s in new)
        if errors or not (died or status == 0):
            why = errors[0] if errors else last_line(logs_folder(self.root) / f"{name}.log")
            self._fail(job, why)
        elif self.attempts[name] == ATTEMPTS:
            self._fail(job, f"its worker {'died' if died else 'was disturbed'} {ATTEMPTS} times")
        else:
            if died:
                self.say(f"{name}: its worker died; it will be run again from where it was")
            self.waiting.append(job)

    def _count(self, job: Job, words: str, began: float | None = None) -> None:
        """Book a job as done, and say so."""
        self.took[job.name] = time.time() - began if began else 0.0
        left = self._left(read_states(self.root))
        about = f", about {duration(left)} left" if left else ""
        self.say(f"[{len(self.took)}/{len(self.jobs)}] {job.name}: {words}{about}")

    def _fail(self, job: Job, why: str) -> None:
        self.failed[job.name] = why
        self.absent.update(job.stages)
        self.say(f"{job.name}: failed: {why}")

    def _left(self, states: dict[str, State]) -> float | None:
        running = [(entry.job, entry.began) for entry in self.running.values()]
        took = {name: seconds for name, seconds in self.took.items() if seconds}
        return seconds_left(running, self.waiting, self.engine.slots, states, took)

    def _show(self, last: str) -> str:
        """On a terminal, keep one line with what runs now and how long it will take."""
        if not sys.stderr.isatty():
            return last
        states = read_states(self.root)
        parts = []
        for name, entry in self.running.items():
            names = [script_name(stage) for stage in entry.job.stages]
            at_work = [states[n].doing for n in names if n in states and states[n].running]
            parts.append(f"{name} {at_work[0] if at_work else 'starts'}")
        left = self._left(states)
        line = f"[{len(self.took)}/{len(self.jobs)}] " + "; ".join(parts)
        line += f"; about {duration(left)} left" if left else ""
        if line != last:
            print(f"\r\033[K{line[:150]}", end="", file=sys.stderr, flush=True)
        return line


def logs_folder(root: Path) -> Path:
    """Where each job's log is."""
    return root / checkpoints_folder() / "logs"


def last_line(log: Path) -> str:
    """The last line of a log that is not empty."""
    lines = log.read_text("utf-8", "replace").split("\n") if log.exists() else []
    return next((line for line in reversed(lines) if line.strip()), "no word of why")
