"""Reading what stages have said of themselves (see `running.state`)."""

import json
import platform
import re
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from tradeoff.core.files import checkpoints_folder
from tradeoff.running.state import state_file

SILENCE = 3600.0  # seconds without a word after which a stage of another machine counts as dead


@dataclass(frozen=True)
class State:
    """A stage's own words: `status` is running, interrupted, failed or done."""

    stage: str
    status: str
    began: float
    seconds: float
    doing: str
    left: float | None
    error: str

    @property
    def running(self) -> bool:
        return self.status == "running"


def read_states(root: Path) -> dict[str, State]:
    """All states by `script_name`; a stage that says it runs and does not is `interrupted`."""
    files = (root / checkpoints_folder() / "state").glob("[!.]*.json")
    states = (_read(path) for path in files)
    return {state.stage: state for state in states if state is not None}


def read_state(root: Path, stage: str) -> State | None:
    """The state of one stage; None if it has said nothing."""
    return _read(root / state_file(script_name(stage)))


def script_name(stage: str) -> str:
    """The name that a stage's script gives it: all kinds of training have one script."""
    return re.sub(r"^train_\w+@", "train@", stage)


def _read(path: Path) -> State | None:
    try:
        about = json.loads(path.read_text("utf-8"))
        return State(
            about["stage"],
            about["status"] if about["status"] != "running" or _alive(about) else "interrupted",
            float(about["began"]),
            float(about["seconds"]),
            about.get("doing", ""),
            about.get("left"),
            about.get("error", ""),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # being removed, or not ours


def _alive(about: dict[str, float | str]) -> bool:
    began, seconds = float(about["began"]), float(about["seconds"])
    if about["host"] != platform.node():
        return time.time() - began - seconds < SILENCE
    try:
        process = psutil.Process(int(about["pid"]))
        # The number may have gone to a process that was born later.
        return process.create_time() <= began + 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
