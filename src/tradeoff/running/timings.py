"""What each cell's stages took, in files that neither git nor DVC keeps: timings/.

`timings/DATASET/CELL.STAGE.json` is written when a stage ends, and with it `timings/DATASET.js`,
which holds all of them for the data set's report: window.timings = {CELL: {STAGE: {"seconds": ...,
"device": ...}}}. Seconds are never the same twice, so they are in no result; no result depends on
these files, and one that cannot be written is no reason to stop.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tradeoff.core.files import atomic_write

FOLDER = Path("timings")

_measured: dict[str, Any] = {}


def note(**numbers: object) -> None:
    """Keep more than the seconds of the running stage, or other seconds than the clock's."""
    _measured.update(numbers)


@contextmanager
def timed(stage: str) -> Iterator[None]:
    """Measure the body, and keep what it took if it succeeds and is a cell's.

    Args:
        stage: as DVC names it, such as attack@trades-resnet18-digits-0-bounded.
    """
    _measured.clear()
    began = time.perf_counter()
    yield
    kind, _, name = stage.partition("@")
    parts = name.split("-")
    if len(parts) < 4:  # a data set's stage, or the study's
        return
    cell, suite = "-".join(parts[:4]), parts[4:]
    numbers = {"seconds": time.perf_counter() - began} | _measured
    with suppress(OSError):
        _write(parts[2], cell, "-".join([kind, *suite]), numbers)


def _write(dataset: str, cell: str, stage: str, numbers: dict[str, Any]) -> None:
    with atomic_write(FOLDER / dataset / f"{cell}.{stage}.json") as partial:
        partial.write_text(json.dumps(numbers) + "\n", "utf-8")
    timings: dict[str, dict[str, Any]] = {}
    for path in sorted((FOLDER / dataset).glob("*.json")):
        key, _, done = path.stem.rpartition(".")
        with suppress(ValueError, OSError):
            timings.setdefault(key, {})[done] = json.loads(path.read_text("utf-8"))
    with atomic_write(FOLDER / f"{dataset}.js") as partial:
        partial.write_text(f"window.timings = {json.dumps(timings, indent=1)};\n", "utf-8")
