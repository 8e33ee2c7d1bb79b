"""What a killed DVC can leave broken, and how it is mended.

DVC writes dvc.lock, and its list of the files in use, in place: killed meanwhile, it leaves them
cut off, and refuses to start the next time. The list also names processes by number, and after a
restart of the machine such a number belongs to another process.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from tradeoff.cluster import lockfile
from tradeoff.cluster.dvclock import LIST_IN_USE, REPOSITORY, dvc_lock
from tradeoff.cluster.plan import cell_stages
from tradeoff.cluster.worktrees import CannotStart, git, ours
from tradeoff.core.files import atomic_write
from tradeoff.core.schema import BadParams
from tradeoff.core.study import Study

IN_USE = Path(".dvc", "tmp", "rwlock")
CONFLICT = re.compile(r"^(<{7}|>{7}) ", re.MULTILINE)

DAMAGED = "is damaged"
INTACT = f"{lockfile.FILE} is intact: nothing to repair"
OTHERS = "names processes that have ended, whose numbers others have now"


def after_a_kill(root: Path) -> Iterator[str]:
    """Mend what needs no decision; yields what was done.

    A dvc.lock with a merge conflict does: there `lockfile.read` refuses.

    Raises:
        CannotStart: DVC is at work on what is damaged.
    """
    if in_use_fault(root):
        yield mend_in_use(root)
    path = root / lockfile.FILE
    if path.exists():
        text = path.read_text("utf-8", "replace")
        if not lockfile.salvage(text)[1] and not CONFLICT.search(text):
            yield mend_lock(root)


def mend_lock(root: Path) -> str:
    """Mend a damaged dvc.lock; what was done, in words.

    Intact entries stay. The others come from the last commit; what that does not have, DVC finds
    in its run-cache at the next `dvc repro`. The damaged file is kept beside.

    Raises:
        CannotStart: DVC is at work: dvc.lock may be half-written and about to be whole.
    """
    from dvc.lock import LockError

    if lockfile.salvaged(root)[1]:
        return INTACT
    try:
        with dvc_lock(root, REPOSITORY):
            entries, intact = lockfile.salvaged(root)  # by now DVC may have written all of it
            return INTACT if intact else _mend_lock(root, entries)
    except LockError:
        raise CannotStart(
            f"{lockfile.FILE} is not whole, and DVC is at work here: wait until it ends, or end "
            "it, and run this again"
        ) from None


def _mend_lock(root: Path, entries: lockfile.Entries) -> str:
    path = root / lockfile.FILE
    try:
        committed = lockfile.salvage(git(root, "show", f"HEAD:{lockfile.FILE}") + "\n")[0]
    except CannotStart:
        committed = {}
    try:
        study = Study.load(root / "params.yaml")
        wanted = {stage for cell in study.cells() for stage in cell_stages(cell)}
    except BadParams:
        wanted = set()
    mended = lockfile.arranged(committed | entries, committed, entries)
    if path.exists():
        path.replace(path.with_name("dvc.lock.damaged"))
    if mended:
        lockfile.write(mended, root)
    taken = len(mended) - len(entries)
    absent = len(wanted - mended.keys())
    return (
        f"dvc.lock: {len(entries)} stages were intact, {taken} come from the last commit; "
        f"{absent} stages of cells are not in it. `tradeoff reproduce` takes from DVC's cache "
        "what was computed, and computes the rest. The damaged file is dvc.lock.damaged."
    )


def in_use_fault(root: Path) -> str:
    """What is wrong with DVC's list of files in use, "" if nothing. Of processes that are simply
    gone nothing is said: DVC strikes them off itself."""
    return _judged(root / IN_USE)[0]


def mend_in_use(root: Path) -> str:
    """Strike off what blocks for nothing; what was done, in words.

    Raises:
        CannotStart: the list is damaged and DVC is at work, whose entries would be lost.
        LockError: DVC writes to it for longer than some seconds.
    """
    path = root / IN_USE
    with dvc_lock(root, LIST_IN_USE):
        fault, kept = _judged(path)
        at_work = [process.pid for process in ours() if _is_dvc(process, root)]
        if fault == DAMAGED and at_work:
            raise CannotStart(
                f"{IN_USE} {fault}, and DVC is at work here (process {at_work[0]}): wait until "
                "it ends, or end it, and run this again"
            )
        if fault:
            with atomic_write(path) as partial:
                partial.write_text(json.dumps(kept), "utf-8")
    return f"{IN_USE}: it {fault or 'is intact'}{'; mended' if fault else ''}"


def _judged(path: Path) -> tuple[str, dict[str, Any]]:
    """What is wrong with the list, and the list without what blocks for nothing."""
    try:
        content = json.loads(path.read_text("utf-8"))
        reading = {
            name: [user for user in users if not _is_another(user)]
            for name, users in content.get("read", {}).items()
        }
        writing = {
            name: user for name, user in content.get("write", {}).items() if not _is_another(user)
        }
    except FileNotFoundError:
        return "", {}
    except (ValueError, AttributeError, KeyError, TypeError):
        return DAMAGED, {}
    kept = {"write": writing, "read": {name: users for name, users in reading.items() if users}}
    return OTHERS if _users(kept) < _users(content) else "", kept


def _users(listed: dict[str, Any]) -> int:
    return len(listed.get("write", {})) + sum(map(len, listed.get("read", {}).values()))


def _is_another(user: dict[str, Any]) -> bool:
    """Whether a living process has the number of a user of the list and another command line.

    DVC has noted its sys.argv, whose first word is a file's path where it was started with -m.
    """
    program, *arguments = user["cmd"].split(" ")
    try:
        words = " ".join(psutil.Process(int(user["pid"])).cmdline())
    except psutil.ZombieProcess:  # killed, and nobody has waited for it
        return True
    except psutil.Error:
        return False
    own = " ".join(arguments) or Path(program).name
    return not words.endswith(own)


def _is_dvc(process: psutil.Process, root: Path) -> bool:
    try:
        words = process.cmdline()[:3]
        return Path(process.cwd()) == root and any(Path(word).name == "dvc" for word in words)
    except (psutil.Error, OSError):
        return False
