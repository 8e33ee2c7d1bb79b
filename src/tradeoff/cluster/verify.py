"""`tradeoff verify CELL`: run a committed cell again, from nothing, and compare.

The same bytes are expected with the same torch on every x86-64 processor where the data set's
`arithmetic` is portable. Elsewhere rounding differs and training amplifies it: there is no verdict.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tradeoff.cluster import lockfile
from tradeoff.cluster.clone import git, only_one
from tradeoff.cluster.plan import cell_stages, upstream
from tradeoff.cluster.status import altered, digest, judge
from tradeoff.core.study import Cell, Study


class NotComparable(Exception):
    """The committed result allows no verdict; says why and what to do."""


def verify(root: Path, key: str) -> int:
    """Rerun and compare; 0 if the cell is confirmed, 1 if not.

    Raises:
        BadParams: there is no such cell.
        NotComparable: its committed result does not belong to the committed code, or its bytes
            differ where no equal ones are expected.
    """
    with only_one(root), _last_commit(root) as folder:
        study = Study.load(folder / "params.yaml")
        cell = study.cell(key)
        if (word := judge(folder, study, [cell], {})[key]) != "done":
            raise NotComparable(
                f"{key} is {word} in the last commit: run `tradeoff reproduce {key}` and "
                "commit what it changes, then verify"
            )
        return _rerun_and_compare(folder, cell, cell_stages(study, cell))


@contextmanager
def _last_commit(root: Path) -> Iterator[Path]:
    """A folder with the files of the last commit, for a while."""
    folder = root / ".dvc" / "tmp" / "verify"

    def remove() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        git(root, "worktree", "prune")

    remove()
    try:
        # Forced twice: git keeps a worktree locked that it was killed while making.
        force = ("--force", "--force")
        git(root, "worktree", "add", "--quiet", *force, "--detach", str(folder), "HEAD")
        yield folder
    finally:
        remove()


def _rerun_and_compare(folder: Path, cell: Cell, stages: list[str]) -> int:
    committed, key = lockfile.read(folder), cell.key
    edited = altered(folder, {stage: committed[stage] for stage in stages})
    if edited:
        print(f"{key}: NOT confirmed, these files are not what the stage wrote by dvc.lock:")
        print("\n".join(f"  {out}" for out in edited))
        return 1
    stages = [*upstream(cell), *stages]
    print(f"{key}: running {len(stages)} stages again in {folder}", flush=True)
    # Nothing may come from where an earlier run has left something.
    environment = {**os.environ, "TRADEOFF_CHECKPOINTS": str(folder / "checkpoints")}
    for stage in stages:
        command = committed[stage].partition("    cmd: ")[2].partition("    deps:")[0]
        arguments = [sys.executable, *shlex.split(command)[1:]]
        print(f"Running stage '{stage}':", flush=True)
        if subprocess.run(arguments, cwd=folder, env=environment, check=False).returncode:
            print(f"{key}: a stage failed, see above; nothing was compared")
            return 1
    digest.cache_clear()
    outputs = {out: md5 for stage in stages for out, md5 in lockfile.sums(committed[stage]).items()}
    different = [out for out, md5 in outputs.items() if digest(folder / out) != md5]
    where = f"{platform.machine()}, {platform.system()}"
    if not different:
        print(f"{key}: every output is the same, byte for byte ({where})")
        return 0
    print(f"{key}: these outputs differ from the committed ones ({where}):")
    print("\n".join(f"  {out}" for out in different))
    dataset = cell.dataset.name
    if cell.dataset.arithmetic == "portable" and platform.machine() in ("x86_64", "AMD64"):
        print("NOT confirmed: the committed bytes were expected")
        return 1
    raise NotComparable(
        f"datasets.{dataset}.arithmetic is {cell.dataset.arithmetic}, on {platform.machine()}: "
        "equal bytes are expected only of portable arithmetic on x86-64, or on the processor on "
        "which the cell was computed"
    )
