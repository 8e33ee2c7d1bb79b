"""What each stage is doing, in small files, for `tradeoff status` and its estimates of time.

`checkpoints/state/STAGE.json` is written while a stage runs and stays when it ends: with the error
if it failed, with the seconds it took if not. No result depends on these files, so a file that
cannot be written is no reason to stop.
"""

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tradeoff.core.files import atomic_write, checkpoints_folder

EVERY = 2.0  # seconds between two writes

_running: "_State | None" = None


def state_file(stage: str) -> Path:
    """The file of a stage named as DVC names it, such as train@trades-resnet18-digits-0."""
    return checkpoints_folder() / "state" / f"{stage}.json"


@contextmanager
def recorded(stage: str) -> Iterator[None]:
    """Keep the state file of a stage while the body runs: running, then done or failed."""
    global _running
    _running = state = _State(stage)
    try:
        state.write("running")
        yield
    except KeyboardInterrupt:
        state.write("interrupted")
        raise
    except BaseException as error:
        ours = type(error).__module__.startswith("tradeoff.") or isinstance(error, SystemExit)
        state.write("failed", error=f"{error}" if ours else f"{type(error).__name__}: {error}")
        raise
    else:
        state.write("done")
    finally:
        _running = None


def note(doing: str, share: float | None = None) -> None:
    """Say what the running stage does, such as "epoch 3/12", and which share of it is done."""
    if _running is not None:
        _running.note(doing, share)


class _State:
    def __init__(self, stage: str) -> None:
        self._file = state_file(stage)
        self._began = self._wrote = time.time()
        self._first: tuple[float, float] | None = None  # time and share when first told
        self._about: dict[str, Any] = {
            "stage": stage,
            "host": platform.node(),
            "pid": os.getpid(),
            "began": self._began,
        }

    def note(self, doing: str, share: float | None) -> None:
        now = time.time()
        self._about["doing"] = doing
        if share is not None:
            self._first = self._first or (now, share)
            began, before = self._first  # a resumed stage starts with some share done
            if share > before:
                self._about["left"] = (now - began) / (share - before) * (1 - share)
        if now - self._wrote >= EVERY:
            self.write("running")

    def write(self, status: str, **more: str) -> None:
        self._wrote = time.time()
        about = self._about | {"status": status, "seconds": self._wrote - self._began} | more
        with suppress(OSError), atomic_write(self._file) as partial:
            partial.write_text(json.dumps(about, indent=1) + "\n", "utf-8")
