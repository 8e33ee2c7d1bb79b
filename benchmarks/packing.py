"""Several cells on one GPU at once: throughput of the best packing over one at a time.

    python benchmarks/packing.py [--device cuda] [--cells 1 2 4 8] [--seconds 20]

Each cell is a process of its own, as the lanes run them, that takes TRADES steps of a small
network on MNIST-sized images for as long as it is told, all beginning together.
"""

import argparse
import subprocess
import sys
import time

import step
import torch

TARGET = 1.5


def main() -> None:
    parser = step.arguments()
    parser.description = __doc__.splitlines()[0]
    parser.add_argument("--cells", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--worker", action="store_true", help="be one of the cells")
    options = parser.parse_args()
    if options.worker:
        work(options)
        return
    print(step.heading(options))
    rates = {count: throughput(count) for count in options.cells}
    alone = rates[options.cells[0]]
    for count, rate in rates.items():
        print(f"{count} at once: {rate:.1f} steps/s, {rate / alone:.2f} times one")
    print(f"best packing: {max(rates.values()) / alone:.2f}, target {TARGET}")


def throughput(count: int) -> float:
    """Steps a second of `count` processes together."""
    command = [sys.executable, *sys.argv, "--worker"]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    for worker in workers:
        assert worker.stdout is not None
        worker.stdout.readline()  # it is ready
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    return sum(float(worker.communicate()[0]) for worker in workers)


def work(options: argparse.Namespace) -> None:
    """Take steps from the word "go" on, and print how many a second."""
    torch.set_num_threads(options.threads)
    run = step.our_steps(*step.prepare(options), options)[0]["trades"]
    device = torch.device(options.device)
    step.seconds(run, device)
    print("ready", flush=True)
    sys.stdin.readline()
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < options.seconds:
        step.seconds(run, device)
        done += 1
    print(done / (time.perf_counter() - began))


if __name__ == "__main__":
    main()
