"""`tradeoff verify CELL`: run a committed cell again, from nothing, and compare.

The same bytes are expected on the same kind of processor with the same torch. Elsewhere rounding
differs and training amplifies it: there accuracies are compared.
"""

import csv
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

from tradeoff.cluster import lockfile
from tradeoff.cluster.clone import git, only_one
from tradeoff.cluster.compare import same_but_for_times
from tradeoff.cluster.plan import cell_stages, upstream
from tradeoff.cluster.status import altered, digest, judge
from tradeoff.core.study import Cell, Study

# Two accuracies over 100 images, each with a standard error of 0.05, differ by less than this
# in nineteen of twenty cases.
TOLERANCE = 0.14
ACCURACIES = ("NA", "RA")


class NotComparable(Exception):
    """The committed result allows no verdict; says why and what to do."""


def verify(root: Path, key: str) -> int:
    """Rerun and compare; 0 if the cell is confirmed, 1 if not.

    Raises:
        BadParams: there is no such cell.
        NotComparable: its committed result does not belong to the committed code, or whether
            the same bytes were to be expected cannot be told.
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
    different = [
        out
        for out, md5 in outputs.items()
        if digest(folder / out) != md5 and not _only_times(folder, out)
    ]
    where = f"{platform.machine()}, {platform.system()}"
    if not different:
        print(f"{key}: every output is the same, byte for byte ({where})")
        return 0
    print(f"{key}: these outputs differ from the committed ones ({where}):")
    print("\n".join(f"  {out}" for out in different))
    if same_processor(folder):
        print("NOT confirmed: on this kind of processor the committed bytes were expected")
        return 1
    worst = _largest_gap(folder, cell)
    if worst > TOLERANCE:
        print(f"NOT confirmed: an accuracy differs by {worst:.3f}, more than {TOLERANCE}")
        return 1
    print(
        f"confirmed within {TOLERANCE}: on another kind of processor than the committed "
        "results' no equal bytes are expected"
    )
    return 0


def _largest_gap(folder: Path, cell: Cell) -> float:
    """By how much the accuracies differ at most from those of the committed table.

    Raises:
        NotComparable: the committed table lacks the cell, as one that is no row.
    """
    from tradeoff.evaluation.summary import cell_table, load_cell_ledgers

    with chdir(folder):
        now = cell_table([load_cell_ledgers(cell)]).iloc[0]
    table = csv.DictReader(_committed(folder, str(cell.dataset.table("cells"))).splitlines())
    axes = {"defense": cell.defense, "architecture": cell.architecture, "seed": str(cell.seed)}
    rows = [row for row in table if axes.items() <= row.items()]
    if not rows:
        raise NotComparable(f"outputs differ, and no committed table has accuracies of {cell.key}")
    then = {name: float(rows[0][name]) for name in ACCURACIES}
    for name in ACCURACIES:
        print(f"  {name} {then[name]:.3f} committed, {now[name]:.3f} now")
    return max(abs(float(now[name]) - then[name]) for name in ACCURACIES)


def _committed(folder: Path, name: str) -> str:
    return git(folder, "show", f"HEAD:{name}")


def _only_times(folder: Path, name: str) -> bool:
    """Whether an output in git differs from the committed one in its seconds only."""
    if not name.startswith("plots/"):
        return False
    return same_but_for_times(name, (folder / name).read_text().strip(), _committed(folder, name))


def same_processor(folder: Path) -> bool:
    """Whether results were committed from a processor like this one, as CI has noted it.

    Raises:
        NotComparable: that cannot be told.
    """
    ask = (
        "import json, sys; sys.path.insert(0, '.ci'); import results;"
        "print(json.loads(results.PROCESSOR.read_text()) == results.processor())"
    )
    command = [sys.executable, "-c", ask]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    said = done.stdout.strip()
    if done.returncode or said not in ("True", "False"):
        why = (done.stderr.strip().splitlines() or [said or "no word of why"])[-1]
        raise NotComparable(
            "outputs differ, and whether the committed ones are of this kind of processor cannot "
            f"be told: {why}. Mend that (.ci/results.py, .ci/processor.json) and verify again"
        )
    return said == "True"
