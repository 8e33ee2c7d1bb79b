"""Files that are there whole or not at all."""

import hashlib
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def checkpoints_folder() -> Path:
    """Where unfinished work is kept: TRADEOFF_CHECKPOINTS, else checkpoints/ in this folder."""
    return Path(os.environ.get("TRADEOFF_CHECKPOINTS") or "checkpoints")


class BadInterval(Exception):
    """TRADEOFF_SAVE_MINUTES is no positive number."""


def save_interval() -> float | None:
    """Seconds between two saves of unfinished work by TRADEOFF_SAVE_MINUTES; None: not set.

    Raises:
        BadInterval: it is no positive number.
    """
    text = os.environ.get("TRADEOFF_SAVE_MINUTES")
    if not text:
        return None
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < math.inf:
        raise BadInterval(f"TRADEOFF_SAVE_MINUTES is {text!r}; it should be a positive number")
    return 60 * minutes


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary neighbour of `path` to write to; it takes `path`'s place if nothing fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        # On the disk before it has its name: a machine that goes down must not leave it empty.
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def file_hash(*paths: Path) -> str:
    """16 hexadecimal digits of the SHA-256 of a file, or of several one after the other."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:16]


def write_json(value: Any, path: Path) -> None:
    """Write JSON that people and `git diff` can read."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")
