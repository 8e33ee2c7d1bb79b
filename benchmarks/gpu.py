"""`make bench-gpu`: the GPU part, on a machine that has only torch and numpy. No DVC, no network.

    python benchmarks/gpu.py [--quick] [--device cpu]

CIFAR-10 sizes, ResNet-18 at full width, bf16, compiled, batches of 128 and 512: the ratio to the
eager float32 reference and the share of the card's own bf16 matrix rate, with the profile of a
step; a step in either layout, in every precision; then the packing of small cells; then AutoAttack,
if data for it and pyautoattack are there.
"""

import argparse
import datetime
import subprocess
import sys
from pathlib import Path

import bare  # noqa: F401
import step
import torch

HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="trivial sizes: does it run at all?")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("bench-gpu: torch sees no GPU here (--device cpu --quick tries the code alone)")
    print(f"{datetime.date.today()}, torch {torch.__version__}")
    for batch in (128, 512):
        steps(options, batch)
    for precision in ("float32", "tf32", "bf16"):
        layouts(options, precision)
    packing(options)
    attack(options)


def steps(options: argparse.Namespace, batch: int) -> None:
    settings = sizes(options, batch, "--precision=bf16", "--compile=on")
    print(step.heading(settings), flush=True)
    rows = step.measure(settings)
    step.print_rows(rows, options.device)
    shares = [row.share for row in rows if row.share is not None]
    if shares:
        print(f"matrix rate: {min(shares):.1%} to {max(shares):.1%}, target {step.GPU_SHARE:.0%}")
    print(step.profiled(settings), flush=True)


def layouts(options: argparse.Namespace, precision: str) -> None:
    """Which of two layouts of the features is faster: networks.layouts.training_layout chooses."""
    settings = sizes(options, 128, f"--precision={precision}", "--compile=on")
    print(step.heading(settings), flush=True)
    step.print_layouts(settings)


def sizes(options: argparse.Namespace, batch: int, *more: str) -> argparse.Namespace:
    """CIFAR-10's, or trivial ones."""
    given = ["--size=32", "--channels=3", "--width=1", f"--batch={batch}", "--epsilon=0.03137"]
    given += ["--rounds=5", *more]
    if options.quick:
        given = ["--size=8", "--width=0.125", f"--batch={batch // 16}", "--steps=1", "--rounds=1"]
    return step.arguments().parse_args([f"--device={options.device}", *given])


def packing(options: argparse.Namespace) -> None:
    sizes = ["--width=0.25", "--size=28", "--precision=bf16"]
    if options.quick:
        sizes = ["--width=0.125", "--size=8", "--batch=8", "--steps=1", "--seconds=0.2"]
        sizes += ["--cells", "1", "2"]
    run("packing.py", [f"--device={options.device}", *sizes])


def attack(options: argparse.Namespace) -> None:
    sizes = ["--scale=0.01", "--samples=5", "--batches=2"] if options.quick else []
    run("autoattack.py", [f"--device={options.device}", *sizes], may_fail=True)


def run(script: str, arguments: list[str], may_fail: bool = False) -> None:
    done = subprocess.run([sys.executable, str(HERE / script), *arguments])
    if done.returncode and not may_fail:
        sys.exit(done.returncode)
    if done.returncode:
        print(f"{script}: left out; it needs scikit-learn or MNIST, and pyautoattack to compare")


if __name__ == "__main__":
    main()
