"""The clone of the study that a command works in."""

import fcntl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class CannotStart(Exception):
    """Nothing was started; the message says why and what to do."""


def git(root: Path, *arguments: str) -> str:
    """The output of a git command.

    Raises:
        CannotStart: it failed, with git's own words.
    """
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotStart(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout.strip()


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
            raise CannotStart(
                "another `tradeoff reproduce` runs here; `tradeoff status` shows what it does"
            ) from None
        yield
