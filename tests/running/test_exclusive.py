"""No two processes work on one cell, and no lock outlives its process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tradeoff.running import exclusive as module
from tradeoff.running.exclusive import exclusive

# Says "in", then stays inside until its input ends.
HOLDER = """
import sys
from tradeoff.running.exclusive import exclusive
with exclusive("train@cell", lambda message: print(message, flush=True)):
    print("in", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADEOFF_CHECKPOINTS", str(tmp_path))


def holder() -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_the_second_waits_says_for_whom_and_goes_on_when_the_first_is_killed() -> None:
    first, second = holder(), None
    try:
        assert line(first) == "in"
        second = holder()
        assert line(second) == (
            f"process {first.pid} is at work on this already; waiting until it ends"
        )
        time.sleep(0.2)
        assert second.poll() is None
        os.kill(first.pid, signal.SIGKILL)
        assert line(second) == "in"
    finally:
        for process in (first, second):
            if process is not None:
                process.kill()
                process.communicate()


def test_other_cells_do_not_wait() -> None:
    said: list[str] = []
    with exclusive("train@one", said.append), exclusive("train@two", said.append):
        assert said == []


def test_a_folder_without_locks_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*arguments: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(module.fcntl, "flock", unsupported)
    said: list[str] = []
    with exclusive("train@cell", said.append):
        pass
    assert len(said) == 1 and "Operation not supported" in said[0]
