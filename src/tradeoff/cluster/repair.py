"""What a killed DVC can leave broken, and how it is mended.

DVC writes dvc.lock, and its list of the files in use, in place: killed meanwhile, it leaves them
cut off, and refuses to start the next time. The list also names processes by number, and after a
restart of the machine such a number belongs to another process.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import psutil

from tradeoff.cluster import lockfile
from tradeoff.cluster.clone import CannotStart, git

IN_USE = Path(".dvc", "tmp", "rwlock")
CONFLICT = re.compile(r"^(<{7}|>{7}) ", re.MULTILINE)
INTACT = f"{lockfile.FILE} is intact: nothing to repair"


def after_a_kill(root: Path) -> Iterator[str]:
    """Mend what needs no decision; yields what was done.

    A dvc.lock with a merge conflict does: there `lockfile.read` refuses.

    Raises:
        CannotStart: DVC is at work on what is damaged.
    """
    if in_use_fault(root):
        yield mend_in_use(root)
    if is_damaged(root) and not CONFLICT.search(
        (root / lockfile.FILE).read_text("utf-8", "replace")
    ):
        yield mend_lock(root)


def is_damaged(root: Path) -> bool:
    """Whether dvc.lock is there and cannot be read."""
    try:
        lockfile.read(root)
    except lockfile.DamagedLock:
        return True
    return False


def mend_lock(root: Path) -> str:
    """Put the dvc.lock of the last commit in place of a damaged one; what was done, in words.

    What that does not have, DVC finds in its run-cache. The damaged file is kept beside.

    Raises:
        CannotStart: DVC is at work: dvc.lock may be half-written and about to be whole.
    """
    from dvc.lock import LockError
    from dvc.repo import Repo

    if not is_damaged(root):
        return INTACT
    try:
        with Repo(str(root)) as repo, repo.lock:
            return _mend_lock(root) if is_damaged(root) else INTACT  # by now it may be whole
    except LockError:
        raise CannotStart(
            f"{lockfile.FILE} is not whole, and DVC is at work here: wait until it ends, or end "
            "it, and run this again"
        ) from None


def _mend_lock(root: Path) -> str:
    path = root / lockfile.FILE
    path.replace(path.with_name("dvc.lock.damaged"))
    try:
        lockfile.write(lockfile.parse(git(root, "show", f"HEAD:{lockfile.FILE}") + "\n"), root)
        source = "it is that of the last commit again"
    except (CannotStart, lockfile.DamagedLock):
        source = "it is gone, as the last commit has none"
    return (
        f"{lockfile.FILE} was damaged; {source}. `tradeoff reproduce` takes from DVC's cache what "
        "was computed since, and computes the rest. The damaged file is dvc.lock.damaged."
    )


def in_use_fault(root: Path) -> str:
    """What is wrong with DVC's list of the files in use, "" if nothing."""
    try:
        users = json.loads((root / IN_USE).read_text("utf-8"))
        in_use = any(map(len, users.values()))
    except FileNotFoundError:
        return ""
    except (ValueError, AttributeError, TypeError):
        return "is damaged"
    return "names files, and no DVC is at work here" if in_use and not _dvc(root) else ""


def mend_in_use(root: Path) -> str:
    """Remove the list if it is of no DVC at work; what was done, in words.

    Raises:
        CannotStart: it is damaged and DVC is at work, which needs it.
    """
    if not (fault := in_use_fault(root)):
        return f"{IN_USE}: it is intact"
    if process := _dvc(root):
        raise CannotStart(
            f"{IN_USE} {fault}, and DVC is at work here (process {process}): wait until it ends, "
            "or end it, and run this again"
        )
    (root / IN_USE).unlink()
    return f"{IN_USE}: it {fault}; mended"


def _dvc(root: Path) -> int | None:
    """A process of this machine in which DVC is at work in this clone."""
    for process in psutil.process_iter():
        try:
            words = process.cmdline()[:3]
            if Path(process.cwd()) == root and any(Path(word).name == "dvc" for word in words):
                return process.pid
        except (psutil.Error, OSError):  # of another user, or gone
            continue
    return None
