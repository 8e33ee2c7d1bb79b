"""Reading what stages have said of themselves (see `running.state`)."""

import json
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from tradeoff.core.files import checkpoints_folder

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
    """All state files; a stage that says it runs and does not is `interrupted`."""
    states = {}
    for path in (root / checkpoints_folder() / "state").glob("[!.]*.json"):
        try:
            about = json.loads(path.read_text("utf-8"))
            state = State(
                about["stage"],
                about["status"] if about["status"] != "running" or _alive(about) else "interrupted",
                float(about["began"]),
                float(about["seconds"]),
                about.get("doing", ""),
                about.get("left"),
                about.get("error", ""),
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue  # being removed, or not ours
        states[state.stage] = state
    return states


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
