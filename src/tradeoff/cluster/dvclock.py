"""The locks that keep DVC's processes apart; whoever writes DVC's files takes them as well."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

REPOSITORY = "lock"  # held by DVC at all times but while the command of a stage runs
LIST_IN_USE = "rwlock.lock"


def dvc_lock(root: Path, name: str, wait: bool = False) -> Any:
    """One of DVC's locks, to be used in a `with`.

    It raises dvc.lock.LockError if it is another's for three seconds, unless it is to `wait`.
    """
    from dvc.lock import make_lock

    folder = root / ".dvc" / "tmp"
    hardlink = _by_hard_links(root)
    return make_lock(str(folder / name), tmp_dir=str(folder), hardlink_lock=hardlink, wait=wait)


@contextmanager
def alone(root: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Wait until no DVC is at work on dvc.lock, which it reads anew when it goes on.

    To be held for moments only: a DVC whose stage ends meanwhile gives up after three seconds.

    Args:
        say: called with a sentence if this takes longer.
    """
    from dvc.lock import LockError

    lock = dvc_lock(root, REPOSITORY)
    try:
        lock.lock()
    except LockError:
        say("DVC is at work in this clone; waiting until it lets go of dvc.lock")
        lock = dvc_lock(root, REPOSITORY, wait=True)
        lock.lock()
    try:
        yield
    finally:
        lock.unlock()


@cache
def _by_hard_links(root: Path) -> bool:
    """As DVC is told to, for file systems that know no locks."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:  # makes the folder of the locks too
        return bool(repo.config["core"].get("hardlink_lock", False))
