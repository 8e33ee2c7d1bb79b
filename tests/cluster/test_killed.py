"""Real runs, killed at random moments of all stages and run again, end as a run left alone.

Five moments of `tradeoff reproduce`; TRADEOFF_SLOW=1 makes it fifty, some of `dvc repro`. The clock
that stages take seconds from stands still, so that every byte can be compared: reports show
seconds.
"""

import os
import random
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
from real import DVC, Done, Run, surroundings
from toys import Toy, working_in

from tests.small import CELLS

WORKERS = (sys.executable, "-m", "tradeoff", "reproduce", "--jobs", "2")
# Which command, and how many moments.
PLANS = [(WORKERS, 35), (DVC, 15)] if os.environ.get("TRADEOFF_SLOW") else [(WORKERS, 5)]
# Who is sent what: the stage, those that wait for it (DVC, tradeoff), or all of them at once.
WAYS = [
    (signal.SIGKILL, "stage"),
    (signal.SIGTERM, "all"),
    (signal.SIGKILL, "parent"),
    (signal.SIGINT, "all"),
    (signal.SIGKILL, "all"),
    (signal.SIGTERM, "parent"),
]
# DVC was killed in the midst of writing; docs/operations.md says what to do.
REFUSALS = (
    "'./dvc.lock' validation failed",
    "unable to read: 'dvc.lock'",
    "Unable to read RWLock-file",
)
PATIENCE = 180  # seconds in which a run of the small study surely gets on


def role(pid: int) -> str:
    """What a process of a run is."""
    try:
        words = psutil.Process(pid).cmdline()
    except psutil.Error:
        return "gone"
    if any("stages/" in word for word in words):
        return "stage"
    return "parent" if "repro" in words or "reproduce" in words else "other"


class Disturbed:
    """A study whose runs are struck and begun again."""

    def __init__(self, study: Toy, command: tuple[str, ...], variables: dict[str, str]) -> None:
        self.study, self.command, self.variables = study, command, variables
        self.refused = 0
        self._begin()

    def _begin(self) -> None:
        self.run, self.struck = Run(self.study, self.command, self.variables), False

    def until(self, *stages: str) -> bool:
        """Go on until one of the stages begins, or to the end; whether one has begun."""
        for _ in range(10):
            if self._reaches(stages):
                return True
            status, said = self.run.process.returncode, self.run.log.read_text()
            if status == 0:
                return False
            if any(refusal in said for refusal in REFUSALS):
                self.refused += 1
                self.study.tradeoff("doctor", "--fix", ok=None)
            else:
                assert self.struck, said
            self._begin()
        raise AssertionError("it does not get to its end")

    def _reaches(self, stages: tuple[str, ...]) -> bool:
        end = time.monotonic() + PATIENCE
        while self.run.process.poll() is None:
            assert time.monotonic() < end, self.run.log.read_text()
            if not set(stages).isdisjoint(self.run.begun()):
                return True
            time.sleep(0.02)
        return False

    def strike(self, number: int, whom: str) -> bool:
        """Send a signal, if somebody is still there; whoever may survive it is left to go on."""
        living = {pid: role(pid) for pid in working_in(self.study.folder)}
        chosen = [pid for pid, own in living.items() if own == whom] or list(living)
        for pid in chosen:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if self.run.process.pid in chosen:
            self.run.process.wait(PATIENCE)
        self.struck = self.struck or bool(chosen)
        return bool(chosen)


def left_behind(folder: Path) -> list[str]:
    """Files that a finished study should not have."""
    unfinished = [path for path in folder.rglob("*.partial") if ".git" not in path.parts]
    kept = [*(folder / "checkpoints").glob("train-*"), *(folder / "checkpoints").glob("suite-*")]
    return [str(path.relative_to(folder)) for path in (*unfinished, *kept)]


def test_runs_killed_at_random_moments_end_as_one_left_alone(done: Done, tmp_path: Path) -> None:
    order, expected = list(done.took), done.study.results()
    assert len(order) == 2 + 4 * len(CELLS) + 4 + 2
    draws = random.Random(6)
    struck: list[str] = []
    refused = 0
    for number, (command, moments) in enumerate(PLANS):
        left = moments
        for attempt in range(moments):  # each a study begun from nothing
            if not left:
                break
            study = done.before.copy(tmp_path / f"{number}-{attempt}")
            around = tmp_path / f"around-{number}-{attempt}"
            with surroundings(study, around) as given:
                disturbed = Disturbed(study, command, given.variables)
                for stage in sorted(draws.sample(order, min(left, len(order))), key=order.index):
                    # It may be done already, if the last moment came late.
                    if not disturbed.until(*order[order.index(stage) :]):
                        break
                    time.sleep(draws.random() * done.took[stage])
                    if disturbed.strike(*WAYS[len(struck) % len(WAYS)]):
                        struck.append(disturbed.run.begun()[-1])
                        left -= 1
                disturbed.until()
                refused += disturbed.refused
                assert not working_in(study.folder)
            found = study.results()
            assert found.keys() == expected.keys()
            assert [name for name in expected if found[name] != expected[name]] == []
            assert left_behind(study.folder) == []
            assert study.up_to_date()
    assert len(struck) == sum(moments for _, moments in PLANS)
    print(f"struck: {' '.join(struck)}; refused: {refused}")
