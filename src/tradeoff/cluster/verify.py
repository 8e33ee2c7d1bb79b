"""`tradeoff verify CELL`: run a committed cell again, from nothing, and compare.

The same bytes are expected with the same torch on every x86-64 processor where the data set's
`arithmetic` is portable. Elsewhere rounding differs and training amplifies it: there is no verdict.
"""

import os
import platform
import subprocess
from pathlib import Path

from tradeoff.cluster import lockfile, worktrees
from tradeoff.cluster.plan import cell_stages
from tradeoff.cluster.reproduce import only_one
from tradeoff.cluster.status import altered, judge
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
    with only_one(root):
        commit = worktrees.git(root, "rev-parse", "HEAD")
        folder = worktrees.scratch(root, commit, f"verify-{key}", worktrees.cache_folder(root))
        try:
            study = Study.load(folder / "params.yaml")
            cell = study.cell(key)
            if (word := judge(folder, [cell], {})[key]) != "done":
                raise NotComparable(
                    f"{key} is {word} in the last commit: run `tradeoff reproduce {key}` and "
                    "commit what it changes, then verify"
                )
            return _rerun_and_compare(folder, cell, cell_stages(cell))
        finally:
            worktrees.remove(root, folder.name)


def _rerun_and_compare(folder: Path, cell: Cell, stages: list[str]) -> int:
    key, dataset = cell.key, cell.dataset.name
    committed = lockfile.read(folder)
    edited = altered(folder, {stage: committed[stage] for stage in stages})
    if edited:
        print(f"{key}: NOT confirmed, these files are not what the stage wrote by dvc.lock:")
        print("\n".join(f"  {out}" for out in edited))
        return 1
    source = f"prepare@{dataset}"
    # Nothing may come from where an earlier run has left something.
    environment = {**os.environ, "TRADEOFF_CHECKPOINTS": str(folder / "checkpoints")}
    command = ["dvc", "repro", "--single-item", "--force", "--no-run-cache", "--no-commit"]
    print(f"{key}: running {len(stages)} stages again in {folder}", flush=True)
    done = subprocess.run([*command, source, *stages], cwd=folder, env=environment, check=False)
    if done.returncode:
        print(f"{key}: a stage failed, see above; nothing was compared")
        return 1
    again = lockfile.read(folder)
    different = [
        out
        for stage in (source, *stages)
        for out, value in lockfile.sums(again[stage]).items()
        if lockfile.sums(committed[stage]).get(out) != value
    ]
    where = f"{platform.machine()}, {platform.system()}"
    if not different:
        print(f"{key}: every output is the same, byte for byte ({where})")
        return 0
    print(f"{key}: these outputs differ from the committed ones ({where}):")
    print("\n".join(f"  {out}" for out in different))
    if cell.dataset.arithmetic == "portable" and platform.machine() in ("x86_64", "AMD64"):
        print("NOT confirmed: the committed bytes were expected")
        return 1
    raise NotComparable(
        f"datasets.{dataset}.arithmetic is {cell.dataset.arithmetic}, on {platform.machine()}: "
        "equal bytes are expected only of portable arithmetic on x86-64, or on the processor on "
        "which the cell was computed"
    )
