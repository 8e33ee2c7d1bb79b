"""The jobs that a killed `tradeoff reproduce` has left in Slurm's queue.

They are known by their name, which is the clone's own: a list of job ids would lack those that
`sbatch` was submitting at the moment of the kill.
"""

import getpass
import hashlib
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tradeoff.cluster.clone import CannotStart

FOLDER = Path(".dvc", "tmp", "slurm")  # submitit's files of the jobs
SUBMITTED = FOLDER / "submitted"  # there are, or may be, jobs
STATES = "PENDING,RUNNING,SUSPENDED,COMPLETING"
PATIENCE = 120.0  # seconds; Slurm kills 30 s after its first signal unless it is told otherwise


def job_name(root: Path) -> str:
    """The name of every job of a clone."""
    return f"tradeoff-{hashlib.sha256(str(root).encode()).hexdigest()[:12]}"


def end_left_over(root: Path, say: Callable[[str], None]) -> None:
    """Cancel what a killed `tradeoff reproduce` has left in the queue, and wait until it is gone.

    To be called by the only one that may run there: what bears the name is another's.

    Raises:
        CannotStart: Slurm cannot be asked, or the jobs do not end.
    """
    if not (root / SUBMITTED).exists():
        return
    announced, end = False, time.monotonic() + PATIENCE
    while jobs := _queued(root):
        if not announced:
            say(f"cancelling what an earlier run has left in Slurm: jobs {', '.join(jobs)}")
            announced = True
        done = _slurm("scancel", *jobs)  # of jobs that end meanwhile it complains, for nothing
        if time.monotonic() > end:
            raise CannotStart(
                f"jobs {', '.join(jobs)} of an earlier run do not end in Slurm, see `squeue`; "
                f"run this again when they have. {done.stderr.strip()}".strip()
            )
        time.sleep(1)
    (root / SUBMITTED).unlink()


def _queued(root: Path) -> list[str]:
    """The jobs of this clone that have not ended."""
    chosen = (f"--user={getpass.getuser()}", f"--name={job_name(root)}", f"--states={STATES}")
    done = _slurm("squeue", "--noheader", "--format=%A", *chosen)
    if done.returncode:
        raise CannotStart(f"squeue, asked for jobs of an earlier run: {done.stderr.strip()}")
    return done.stdout.split()


def _slurm(*command: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise CannotStart(
            f"an earlier run has submitted jobs to Slurm, and there is no {command[0]} here: start "
            f"where Slurm's commands are, or remove {SUBMITTED} if none of them is left"
        ) from None
