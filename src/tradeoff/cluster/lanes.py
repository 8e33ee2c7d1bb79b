"""Reproduce a data set's cells in several lanes on this machine, then whatever is left.

    python -m tradeoff.cluster.lanes digits --jobs 2

Each lane is one `dvc --wait-for-lock repro` over its share of the cells. DVC holds its lock only
between commands, so that the commands themselves run side by side. The last step is the plain
`dvc repro report@DATASET`: it finds the cells done and makes the result the same as without lanes.
"""

import argparse
import os
import signal
import subprocess
import sys

from tradeoff.core.fields import BadParams
from tradeoff.core.study import Study
from tradeoff.core.warm import warm


def lanes(study: Study, dataset: str, jobs: int) -> list[list[str]]:
    """Patterns of the stages of the data set's cells: each cell wholly in one lane, in turn.

    DVC reads its whole lock file again for every target, so a cell is one target if possible.
    """
    shares: list[list[str]] = [[] for _ in range(jobs)]
    keys = [cell.key for cell in study.cells(dataset)]
    for number, key in enumerate(keys):
        longer = any(other.startswith(key) for other in keys if other != key)  # seeds 1 and 10
        shares[number % jobs] += [f"*@{key}", f"*@{key}-*"] if longer else [f"*@{key}*"]
    return [share for share in shares if share]


def reproduce(dataset: str, jobs: int) -> int:
    """Run everything; the exit status of the first `dvc repro` that failed, or 0."""
    shares = lanes(Study.load(), dataset, jobs)
    status = subprocess.call(["dvc", "repro", f"prepare@{dataset}"])
    if status or len(shares) < 2:
        return status or subprocess.call(["dvc", "repro", f"report@{dataset}"])
    command = ["dvc", "--wait-for-lock", "repro", "--single-item", "--glob"]
    running = []
    with warm() as environment:
        try:
            # Each lane is a process group of its own: an interruption reaches its trainer too.
            for share in shares:
                running.append(
                    subprocess.Popen(
                        [*command, *share], env=os.environ | environment, start_new_session=True
                    )
                )
            statuses = [process.wait() for process in running]
        finally:
            for process in running:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGINT)
            for process in running:
                process.wait()
    failed = [status for status in statuses if status]
    return failed[0] if failed else subprocess.call(["dvc", "repro", f"report@{dataset}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dataset", help="a data set of params.yaml, such as digits")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="lanes at once")
    given = parser.parse_args()
    # A scheduler's SIGTERM is handled as Ctrl-C is.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(reproduce(given.dataset, max(1, given.jobs)))
    except BadParams as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("interrupted: run the same command again to go on")


if __name__ == "__main__":
    main()
