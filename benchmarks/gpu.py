"""`make bench-gpu`: the GPU part, on a machine that has only torch and numpy. No DVC, no network.

    python benchmarks/gpu.py [--quick] [--device cpu]

CIFAR-10 sizes, ResNet-18 at full width, bf16, compiled, batches of 128 and 512: the ratio to the
eager float32 reference and the share of the card's own bf16 matrix rate, with the profile of a
step; a step in either layout, in every precision; then the packing of small cells; then AutoAttack,
if data for it and pyautoattack are there. `--quick`: trivial sizes, does it run at all?
"""

import argparse
import datetime
import subprocess
import sys

import harness
import step
import torch


def main() -> None:
    options = harness.parser(__doc__, device="cuda", quick=False).parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("bench-gpu: torch sees no GPU here (--device cpu --quick tries the code alone)")
    print(f"{datetime.date.today()}, torch {torch.__version__}")
    for batch in (128, 512):
        steps(options, batch)
    for precision in ("float32", "tf32", "bf16"):
        settings = sizes(options, 128, f"--precision={precision}", "--compile=on")
        print(step.heading(settings), flush=True)
        step.print_layouts(settings)
    run("packing.py", options, ["--width=0.25", "--size=28", "--precision=bf16"],
        ["--width=0.125", "--size=8", "--batch=8", "--steps=1", "--seconds=0.2",
         "--cells", "1", "2"])  # fmt: skip
    if run("autoattack.py", options, [], ["--scale=0.01", "--samples=5", "--batches=2"], False):
        print("autoattack.py: left out; it needs the package's requirements and pyautoattack")


def steps(options: argparse.Namespace, batch: int) -> None:
    settings = sizes(options, batch, "--precision=bf16", "--compile=on")
    print(step.heading(settings), flush=True)
    rows = step.measure(settings)
    step.print_rows(rows, options.device)
    shares = [row.share for row in rows if row.share is not None]
    if shares:
        print(f"matrix rate: {min(shares):.1%} to {max(shares):.1%}, target {step.GPU_SHARE:.0%}")
    print(step.profiled(settings), flush=True)


def sizes(options: argparse.Namespace, batch: int, *more: str) -> argparse.Namespace:
    """CIFAR-10's, or trivial ones."""
    given = ["--size=32", "--channels=3", "--width=1", f"--batch={batch}", "--epsilon=0.03137"]
    given += ["--rounds=5", *more]
    if options.quick:
        given = ["--size=8", "--width=0.125", f"--batch={batch // 16}", "--steps=1", "--rounds=1"]
    return step.arguments().parse_args([f"--device={options.device}", *given])


def run(
    script: str, options: argparse.Namespace, usual: list[str], quick: list[str], must: bool = True
) -> int:
    """Run another benchmark in a process of its own; its status, 0 if it `must` succeed."""
    path = str(harness.ROOT / "benchmarks" / script)
    sizes = quick if options.quick else usual
    return subprocess.run(
        [sys.executable, path, f"--device={options.device}", *sizes], check=must
    ).returncode


if __name__ == "__main__":
    main()
