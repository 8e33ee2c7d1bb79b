"""A git worktree for each cell: the same tracked files, the same DVC cache, a dvc.lock of its own.

The worktrees lie in .dvc/tmp/cells of the repository, so that every machine that shares the
repository's file system finds them.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from tradeoff.cluster import lockfile
from tradeoff.cluster.dvclock import alone
from tradeoff.cluster.plan import Job
from tradeoff.core.files import checkpoints_folder

CELLS = Path(".dvc", "tmp", "cells")
CODE = ("src", "stages")
MARK = "TRADEOFF_REPRODUCES"  # in the environment of all that a `tradeoff reproduce` starts


class CannotStart(Exception):
    """Nothing was started; the message says why and what to do."""


def git(root: Path, *arguments: str, index: Path | None = None) -> str:
    """The output of a git command, run on another index if one is given.

    Raises:
        CannotStart: it failed, with git's own words.
    """
    command = ["git", "-C", str(root), *arguments]
    environment = {**os.environ, "GIT_INDEX_FILE": str(index)} if index else None
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotStart(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout.strip()


def snapshot(root: Path) -> str:
    """A commit with the tracked files as they are now, uncommitted changes included.

    Raises:
        CannotStart: there is untracked code, which no worktree would have.
    """
    untracked = git(root, "ls-files", "--others", "--exclude-standard", "--", *CODE).splitlines()
    if untracked:
        raise CannotStart(
            "These files are not in git, so the workers would not have them; "
            "`git add` or remove them:\n  " + "\n  ".join(untracked)
        )
    head = git(root, "rev-parse", "HEAD")
    with tempfile.TemporaryDirectory() as folder:
        # A copy of the index, so that what the user has staged stays as it is.
        copy = Path(folder, "index")
        shutil.copy(git(root, "rev-parse", "--path-format=absolute", "--git-path", "index"), copy)
        git(root, "add", "--update", index=copy)
        tree = git(root, "write-tree", index=copy)
    if tree == git(root, "rev-parse", "HEAD^{tree}"):
        return head
    identity = ["-c", "user.name=tradeoff", "-c", "user.email=tradeoff@localhost"]
    return git(root, *identity, "commit-tree", tree, "-p", head, "-m", "uncommitted changes")


def cache_folder(root: Path) -> Path:
    """The cache of the repository, which all its worktrees share."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        return Path(repo.cache.local.path).parents[1]


def make(root: Path, commit: str, cache: Path, job: Job, say: Callable[[str], None]) -> Path:
    """A worktree for a job, with its inputs and what is known and computed of it already.

    Args:
        say: called with a sentence if DVC is at work and has to be waited for.
    """
    folder = scratch(root, commit, job.name, cache)
    checkpoints = (root / checkpoints_folder()).resolve()
    checkpoints.mkdir(parents=True, exist_ok=True)
    (folder / "checkpoints").symlink_to(checkpoints)
    with alone(root, say):
        entries = lockfile.read(root)
    known = {name: entries[name] for name in job.stages if name in entries}
    (folder / lockfile.FILE).unlink(missing_ok=True)
    if known:
        lockfile.write(known, folder)
    outputs = [out for block in known.values() for out in lockfile.outputs(block)]
    for path in (*job.inputs, *outputs):
        if (root / path).exists() and not (folder / path).exists():
            _link(root / path, folder / path)
    return folder


def scratch(root: Path, commit: str, name: str, cache: Path) -> Path:
    """A bare worktree of a commit that shares the cache."""
    folder = root / CELLS / name
    remove(root, name)
    # Forced twice: git keeps a worktree locked that it was killed while making.
    force = ("--force", "--force")
    git(root, "worktree", "add", "--quiet", *force, "--detach", str(folder), commit)
    # Settings of this machine, such as a remote's password, hold in the worktree too.
    local = root / ".dvc" / "config.local"
    if local.exists():
        shutil.copy(local, folder / ".dvc" / "config.local")
    command = ["git", "config", "--file", str(folder / ".dvc" / "config.local")]
    subprocess.run([*command, "cache.dir", str(cache)], check=True)
    return folder


def adopt(root: Path, folder: Path, stages: tuple[str, ...], say: Callable[[str], None]) -> None:
    """Move what a worktree has computed, and its entries of dvc.lock, to the repository.

    Args:
        say: called with a sentence if DVC is at work and has to be waited for.
    """
    computed = lockfile.read(folder)
    with alone(root, say):
        for name in stages:
            for out in lockfile.outputs(computed[name]):
                target = root / out
                if target.is_dir():
                    shutil.rmtree(target)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(folder / out, target)
        lockfile.write(lockfile.read(root) | {name: computed[name] for name in stages}, root)


def remove(root: Path, cell: str) -> None:
    """Remove a cell's worktree, and end what a dead worker has left running in it."""
    folder = root / CELLS / cell
    end_processes(folder)
    if folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
    git(root, "worktree", "prune")


def clean(root: Path) -> None:
    """Remove every cell's worktree."""
    for folder in sorted((root / CELLS).glob("*")):
        remove(root, folder.name)


def end_processes(folder: Path) -> None:
    """End every process of ours on this machine that works in a folder."""
    _end(lambda process: Path(process.cwd()).is_relative_to(folder))


def end_left_over(root: Path) -> None:
    """End what a killed `tradeoff reproduce` has left running on this machine.

    To be called by the only one that may run there: what bears the mark is another's.
    """
    _end(lambda process: process.environ().get(MARK) == str(root))
    os.environ[MARK] = str(root)


def ours() -> Iterator[psutil.Process]:
    """The other processes of this machine; some can tell nothing, being another's."""
    return (process for process in psutil.process_iter() if process.pid != os.getpid())


def _end(chosen: Callable[[psutil.Process], bool]) -> None:
    found = []
    for process in ours():
        try:
            if chosen(process):
                process.terminate()
                found.append(process)
        except (psutil.Error, OSError):
            continue
    _, alive = psutil.wait_procs(found, timeout=10)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=10)


def _link(source: Path, target: Path) -> None:
    """A hard link where possible: DVC removes an output before it is written anew."""

    def link(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)

    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, copy_function=link)
    else:
        link(str(source), str(target))
