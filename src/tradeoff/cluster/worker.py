"""What a worker does: run the scripts of a job's stages one after another in one process.

Importing torch takes two seconds, a stage of a small cell hardly more: here the stages of a cell
import it once. A worker ends with the process that started it, and it hears Ctrl-C and SIGTERM
whatever that process had ignored, as a background job of a shell does.

Run as a module: python -m tradeoff.cluster.worker STEPS PARENT, in the root of the clone.
"""

import gc
import json
import os
import runpy
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

Step = tuple[str, str]  # a stage's name and its command
Order = tuple[str, list[Step], str]  # the clone, what to run there, the log

GRACE = 20.0  # seconds to save what can be resumed
PATIENCE = 1.0  # seconds between two looks at who started this


def run_order(order: Order) -> int | None:
    """Run a job from its start to its end; the exit status, None if its process was killed."""
    # On a cluster a scheduler ends the task with SIGTERM; only a main thread can hear of it.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    process = start(order)
    try:
        status = process.wait()
        return status if status >= 0 else None
    finally:
        stop([process])


def start(order: Order, environment: dict[str, str] | None = None) -> "subprocess.Popen[bytes]":
    """Start the process of a job, in a group of its own."""
    root, steps, log = order
    path = [str(Path(root, "src")), os.environ.get("PYTHONPATH", "")]
    with Path(log).open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", __name__, json.dumps(steps), str(os.getpid())],
            cwd=root,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, path)),
                **(environment or {}),
            },
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def stop(processes: Iterable["subprocess.Popen[Any]"]) -> None:
    """Interrupt processes, and after some seconds end them and whatever they have started."""
    processes = list(processes)
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
    end = time.monotonic() + GRACE
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, end - time.monotonic()))
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main(steps: list[Step], parent: int) -> None:
    """Run the scripts. One that fails ends the process, with a status or an error as it is."""
    for interruption in (signal.SIGINT, signal.SIGTERM):
        signal.signal(interruption, signal.default_int_handler)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    sys.path.insert(0, str(Path("stages").resolve()))
    for number, (stage, command) in enumerate(steps):
        if number and _needs_no_run(stage):
            print(f"Stage '{stage}' didn't change, skipping", flush=True)
            continue
        print(f"Running stage '{stage}':\n> {command}", flush=True)
        sys.argv = shlex.split(command)[1:]
        runpy.run_path(sys.argv[0], run_name="__main__")
        _free_memory()


def _needs_no_run(stage: str) -> bool:
    """Whether a stage's result is there after all: the stages before may have made the same bytes
    as the last time."""
    from tradeoff.cluster.status import up_to_date

    return up_to_date(Path.cwd(), stage)


def _free_memory() -> None:
    """Give back what the last stage has taken of a GPU: other cells may share it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def _end_with(parent: int) -> None:
    """Interrupt this process once its parent is gone, and end it if that does not do."""
    while os.getppid() == parent:
        time.sleep(PATIENCE)
    # The main thread, whose waiting a signal to another thread would not end.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    time.sleep(GRACE)
    os._exit(1)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), int(sys.argv[2]))
