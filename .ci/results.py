"""Are the committed results true? Two checks of CI.

    python .ci/results.py belong     dvc.lock and the results in git belong to code and params
    python .ci/results.py compare    what was just computed is what is committed

Of digits all cells are committed, and computed anew here. Of other data sets there may be a part,
cell by cell, which is compared with the code and with params alone.

Arithmetic of digits is portable: the results are the same bytes on every x86-64 processor.
Elsewhere (arm64) rounding differs and training amplifies it: then what differs is listed, no more.
"""

import platform
import subprocess
import sys

import pandas as pd
import yaml

DATASET = "digits"


def belong() -> None:
    """Nothing to do for DVC, models and ledgers apart, which are not in git."""
    whole = [f"report@{DATASET}"], ["--single-item", "chapter", "index"]
    for targets in (*whole, other_cells()):
        command = ["dvc", "repro", "--allow-missing", "--dry", *targets]
        output = subprocess.run(command, capture_output=True, text=True, check=False)
        stale = [line for line in output.stdout.splitlines() if line.startswith("Running stage")]
        if output.returncode or stale:
            print(output.stderr, *stale, sep="\n")
            sys.exit(
                "The committed results are stale: run make quickstart and commit what it changes."
            )
    missing = pd.read_csv(f"plots/summary/{DATASET}/missing.csv")
    if len(missing):
        print(missing.to_string(index=False))
        sys.exit("The committed results lack these cells: mend them and run make quickstart.")
    print("dvc.lock, metrics, plots and report belong to the committed code, and lack no cell.")


def other_cells() -> list[str]:
    """The stages of other data sets' cells that dvc.lock has; code, if there are none."""
    with open("dvc.lock", encoding="utf-8") as file:
        stages = yaml.load(file, yaml.CSafeLoader)["stages"]
    cells = [name for name in stages if name.startswith(("prepare@", "train", "attack@"))
             and DATASET not in name]  # fmt: skip
    return cells or ["code"]


def compare() -> None:
    """Every file in git as it is committed, byte for byte."""
    different = changed_files()
    if not different:
        print("The same results, byte for byte.")
    elif platform.machine() not in ("x86_64", "AMD64"):
        print(f"No equal bytes are expected on {platform.machine()}. These results differ:")
        print("\n".join(different))
    else:
        sys.exit("These results differ from the committed ones:\n" + "\n".join(different))


def changed_files() -> list[str]:
    """What is not as committed, new files included."""
    command = ["git", "status", "--porcelain"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line[3:] for line in lines.splitlines()]


if __name__ == "__main__":
    tasks = {"belong": belong, "compare": compare}
    task = sys.argv[1] if len(sys.argv) == 2 else ""
    if task in tasks:
        tasks[task]()
    else:
        sys.exit(__doc__)
