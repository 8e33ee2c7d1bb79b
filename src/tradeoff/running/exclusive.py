"""One process at a time on a cell.

Killing DVC leaves the trainer that it started alive, and the next `dvc repro` starts another. The
operating system's own lock keeps the two apart: it ends with its process, however that ends.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from tradeoff.core.files import checkpoints_folder


@contextmanager
def exclusive(name: str, say: Callable[[str], None]) -> Iterator[None]:
    """Wait until no other process is inside with this name.

    Where the folder of checkpoints knows no locks, as some mounted folders do not, nothing waits.

    Args:
        say: called with a sentence if there is another.
    """
    folder = checkpoints_folder() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    # The file stays: deleted, it could be locked by one process and made anew by another.
    with (folder / f"{name}.lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{_holder(file)} is at work on this already; waiting until it ends")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            say(f"no lock in {folder} ({error.strerror}): let no second process run this")
        with suppress(OSError):  # who holds it is told for people's sake only
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        yield


def _holder(file: TextIO) -> str:
    file.seek(0)
    number = file.read().strip()
    return f"process {number}" if number else "another process"
