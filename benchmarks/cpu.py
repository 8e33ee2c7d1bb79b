"""`make bench`: what fits a CPU, in under ten minutes, as a table of targets and results.

    python benchmarks/cpu.py [--threads 2] [--quick]

`--quick`: trivial sizes, does it run at all?
Each part is a script beside this one and can be run alone, with more rounds or another budget.
"""

import datetime
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import autoattack
import epoch
import harness
import step
import torch

NOTHING_TO_DO_TARGET = 8.0


class Result(NamedTuple):
    """One line of the table."""

    what: str
    target: str
    result: str
    reached: bool | None


def main() -> None:
    options = harness.parser(__doc__, threads=2, quick=False).parse_args()
    began = time.perf_counter()
    results = list(measured(options.threads, options.quick))
    print(table(results, options.threads))
    print(f"\n{time.perf_counter() - began:.0f} s in all")


def measured(threads: int, quick: bool) -> Iterator[Result]:
    """The results, each as soon as it is known; what is measured goes to the terminal."""
    settings = step.arguments().parse_args(["--threads", str(threads)])
    if quick:
        small = "--threads=1 --size=8 --width=0.125 --batch=8 --steps=2 --rounds=1"
        settings = step.arguments().parse_args(small.split())
    print(step.heading(settings), flush=True)
    rows = step.measure(settings)
    step.print_rows(rows, "cpu")
    print(step.profiled(settings), flush=True)
    yield from of_steps(rows)

    sizes = ["--threads", str(threads)]
    if quick:
        sizes += ["--images=32", "--batch=8", "--size=8", "--steps=1"]
    whole, alone = epoch.epoch(epoch.arguments().parse_args(sizes))
    yield below("an epoch over its steps, data and validation included", whole / alone,
                epoch.EPOCH_TARGET)  # fmt: skip
    yield below("`python stages/train.py` to the first step, seconds", epoch.first_step(threads),
                epoch.START_TARGET)  # fmt: skip
    if not quick:
        yield from nothing_to_do()
    yield from attack(threads, quick)


def of_steps(rows: list[step.Row]) -> Iterator[Result]:
    ours = {row.defense: row.ours for row in rows}
    for row in rows:
        what = f"{row.defense} step over the published structure, times as fast"
        target = step.CPU_TARGETS.get(row.defense)
        if target is None:
            yield Result(what, "", f"{row.ratio:.2f}", None)
        else:
            yield Result(what, f"at least {target}", f"{row.ratio:.2f}", row.ratio >= target)
    for (defense, base), limit in step.OVER.items():
        yield below(f"{defense} step over {base}", ours[defense] / ours[base], limit)


def nothing_to_do() -> Iterator[Result]:
    """`dvc repro` where everything is up to date; skipped where it is not."""
    command = [sys.executable, "-m", "dvc", "status", "--quiet"]
    if subprocess.run(command, cwd=harness.ROOT, capture_output=True).returncode:
        yield Result("`dvc repro` with nothing to do, seconds", f"at most {NOTHING_TO_DO_TARGET}",
                     "there is something to do", None)  # fmt: skip
        return
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=harness.ROOT, check=True)
    seconds = time.perf_counter() - began
    yield below("`dvc repro` with nothing to do, seconds", seconds, NOTHING_TO_DO_TARGET)


def attack(threads: int, quick: bool) -> Iterator[Result]:
    """AutoAttack with a tenth of the standard budget."""
    sizes = "--scale 0.01 --samples 10 --batches 3" if quick else "--scale 0.1"
    options = autoattack.arguments().parse_args(["--threads", str(threads), *sizes.split()])
    rows = autoattack.compare(options)
    if len(rows) == 2:
        ratio, target = autoattack.speedup(rows), autoattack.TARGET["cpu"]
        yield Result("AutoAttack over pyautoattack, times as fast", f"at least {target}",
                     f"{ratio:.2f}", ratio >= target)  # fmt: skip


def below(what: str, value: float, limit: float) -> Result:
    return Result(what, f"at most {limit:g}", f"{value:.2f}", value <= limit)


def table(results: list[Result], threads: int) -> str:
    """Markdown, for docs/performance.md."""
    lines = [
        f"{datetime.date.today()}, {processor()}, {threads} threads of {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, torch {torch.__version__}",
        "",
        "| what | target | result | |",
        "| --- | --- | --- | --- |",
    ]
    words = {True: "reached", False: "missed", None: ""}
    lines += [f"| {r.what} | {r.target} | {r.result} | {words[r.reached]} |" for r in results]
    return "\n".join(lines)


def processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":")[1].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
