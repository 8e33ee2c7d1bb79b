"""`tradeoff verify CELL`: run a committed cell again, from nothing, and compare.

The same bytes are expected on the same kind of processor with the same torch. Elsewhere rounding
differs and training amplifies it: there accuracies are compared.
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

from tradeoff.cluster import lockfile, worktrees
from tradeoff.cluster.compare import same_but_for_times
from tradeoff.cluster.plan import cell_stages
from tradeoff.cluster.reproduce import only_one
from tradeoff.cluster.status import altered, judge
from tradeoff.core.study import Study

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
            return _rerun_and_compare(folder, key, cell_stages(cell), cell.dataset.name)
        finally:
            worktrees.remove(root, folder.name)


def _rerun_and_compare(folder: Path, key: str, stages: list[str], dataset: str) -> int:
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
        if lockfile.sums(committed[stage]).get(out) != value and not _only_times(folder, out)
    ]
    where = f"{platform.machine()}, {platform.system()}"
    if not different:
        print(f"{key}: every output is the same, byte for byte ({where})")
        return 0
    print(f"{key}: these outputs differ from the committed ones ({where}):")
    print("\n".join(f"  {out}" for out in different))
    worst = 0.0
    for out in different:
        if out.startswith("metrics/"):
            now, then = json.loads((folder / out).read_text()), json.loads(_committed(folder, out))
            for name in ACCURACIES:
                if name in now and name in then:
                    gap = abs(now[name] - then[name])
                    worst = max(worst, gap)
                    print(f"  {out}: {name} {then[name]:.3f} committed, {now[name]:.3f} now")
    if worst > TOLERANCE:
        print(f"NOT confirmed: an accuracy differs by {worst:.3f}, more than {TOLERANCE}")
    elif same_processor(folder):
        print("NOT confirmed: on this kind of processor the committed bytes were expected")
        return 1
    else:
        print(
            f"confirmed within {TOLERANCE}: on another kind of processor than the committed "
            "results' no equal bytes are expected"
        )
    return int(worst > TOLERANCE)


def _committed(folder: Path, name: str) -> str:
    return worktrees.git(folder, "show", f"HEAD:{name}")


def _only_times(folder: Path, name: str) -> bool:
    """Whether an output in git differs from the committed one in its seconds only."""
    if not name.startswith(("metrics/", "plots/")):
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
