"""Are the committed results of the digits study true? Two checks of CI.

    python .ci/results.py belong     dvc.lock and the results in git belong to code and params
    python .ci/results.py compare    what was just computed is what is committed
    python .ci/results.py remember   note the processor on which the results were computed

Results are the same bytes on the same kind of processor and the same torch. Elsewhere rounding
differs, training amplifies it, and single cells move: then only means over seeds are compared.
"""

import io
import json
import platform
import subprocess
import sys
from pathlib import Path

import pandas as pd
import torch

from tradeoff.cluster.compare import same_but_for_times

DATASET = "digits"
PROCESSOR = Path(".ci/processor.json")
MEAN_TOLERANCE = 0.08  # of an accuracy averaged over seeds, on another kind of processor


def processor() -> dict[str, str]:
    """What decides over the last bits of a result."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    lines = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in lines.items()}
    return {
        "machine": platform.machine(),
        "model": fields.get("model name", platform.processor()),
        "family": f"{fields.get('cpu family', '')}/{fields.get('model', '')}",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__.partition("+")[0],
    }


def belong() -> None:
    """Nothing to do for DVC, models and ledgers apart, which are not in git."""
    for targets in ([f"report@{DATASET}"], ["--single-item", "chapter", "index"]):
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


def compare() -> None:
    """Everything equal but the times; or on another processor, means within the tolerance."""
    if json.loads(PROCESSOR.read_text()) == processor():
        different = [name for name in changed_files() if not only_times_differ(name)]
        if different:
            sys.exit("These results differ from the committed ones:\n" + "\n".join(different))
        print("Same kind of processor, same results.")
        return
    print(f"Another kind of processor: means over seeds within {MEAN_TOLERANCE}.")
    path = f"plots/summary/{DATASET}/cells.csv"
    keys, metrics = ["architecture", "defense"], ["NA", "RA"]
    now = pd.read_csv(path).groupby(keys)[metrics].mean()
    then = pd.read_csv(committed(path)).groupby(keys)[metrics].mean()
    gap = (now - then).abs()
    print(gap.to_string())
    if not bool((gap <= MEAN_TOLERANCE).all(axis=None)):
        sys.exit("Means differ by more than the tolerance.")


def changed_files() -> list[str]:
    """Results that are not as committed, new ones included.

    Reports are left out: they show times, and DVC knows that they belong to these results.
    """
    command = ["git", "status", "--porcelain", "--", "metrics", "plots"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line[3:] for line in lines.splitlines()]


def only_times_differ(name: str) -> bool:
    """Whether a file equals its committed version apart from seconds."""
    try:
        return same_but_for_times(name, Path(name).read_text(), committed(name).read().decode())
    except (subprocess.CalledProcessError, ValueError, OSError):  # new, removed or not text
        return False


def committed(name: str) -> io.BytesIO:
    """The committed version of a file, as a stream."""
    process = subprocess.run(["git", "show", f"HEAD:{name}"], capture_output=True, check=True)
    return io.BytesIO(process.stdout)


if __name__ == "__main__":
    tasks = {"belong": belong, "compare": compare}
    task = sys.argv[1] if len(sys.argv) == 2 else ""
    if task == "remember":
        PROCESSOR.write_text(json.dumps(processor(), indent=2) + "\n")
    elif task in tasks:
        tasks[task]()
    else:
        sys.exit(__doc__)
