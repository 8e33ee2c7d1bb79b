"""What a worker does, on this machine or another: `dvc repro` of one job in its worktree."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from tradeoff.cluster.worktrees import end_processes

GRACE = 20.0  # seconds to save what can be resumed


def run_cell(
    folder: str, stages: tuple[str, ...], log: str, environment: dict[str, str] | None = None
) -> int | None:
    """Reproduce the stages in a worktree; the exit status of DVC, None if it was killed.

    However this ends, nothing keeps running in the worktree.
    """
    # On a cluster a scheduler ends the task with SIGTERM; only a main thread can hear of it.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    process = start_cell(folder, stages, log, environment)
    try:
        status = process.wait()
        return status if status >= 0 else None
    finally:
        stop_cell(process, folder)


def start_cell(
    folder: str, stages: tuple[str, ...], log: str, environment: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start DVC on the cell, in a process group of its own."""
    shared = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "TRADEOFF_CHECKPOINTS": str(Path(folder, "checkpoints")),  # a link to the repository's
    }
    with Path(log).open("ab") as file:
        return subprocess.Popen(
            ["dvc", "repro", "--single-item", *stages],
            cwd=folder,
            env={**os.environ, **shared, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def stop_cell(process: subprocess.Popen[bytes], folder: str) -> None:
    """Interrupt DVC and its trainer, and after some seconds end them."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    end_processes(Path(folder))
