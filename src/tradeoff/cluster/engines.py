"""Where cells run: processes of this machine, a Ray cluster, or a Slurm cluster through submitit.

An engine starts cells and says which have ended. It neither orders nor retries them.
"""

import logging
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from tradeoff.cluster.slurm import FOLDER, SUBMITTED, job_name
from tradeoff.cluster.worker import run_cell, start_cell, stop_cell
from tradeoff.cluster.worktrees import CannotStart
from tradeoff.running.warm import VARIABLE, warm

Order = tuple[str, tuple[str, ...], str]  # worktree, stages, log


class Engine(Protocol):
    """Runs orders; `slots` of them at once."""

    slots: int

    def start(self, cell: str, order: Order) -> None: ...

    def ended(self) -> dict[str, int | None]:
        """Cells that have ended since the last call: exit status, None if the worker was lost."""

    def stop(self) -> None:
        """End everything that still runs."""


def gpus() -> list[str]:
    """The GPUs that may be used, as CUDA_VISIBLE_DEVICES names them; torch is not asked.

    TRADEOFF_DEVICE=cpu leaves none, cuda:1 the second alone.

    Raises:
        CannotStart: TRADEOFF_DEVICE names one beyond the last.
    """
    if (asked := _asked()) == "cpu":
        return []
    visible = _visible()
    if not visible or (number := _number(asked)) is None:
        return visible
    if number >= len(visible):
        known = ", ".join(f"cuda:{n}" for n in range(len(visible)))
        raise CannotStart(f"TRADEOFF_DEVICE is {asked!r}; allowed here: cpu, cuda, {known}")
    return [visible[number]]


def _visible() -> list[str]:
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name and name != "-1"]
    if not shutil.which("nvidia-smi"):
        return []
    done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return [str(n) for n, line in enumerate(done.stdout.splitlines()) if line.startswith("GPU")]


def _asked() -> str:
    return os.environ.get("TRADEOFF_DEVICE", "")


def _number(asked: str) -> int | None:
    """Which of this machine's GPUs is asked for, from 0; None if any will do."""
    match = re.fullmatch(r"cuda:(\d+)", asked)
    return int(match[1]) if match else None


def _refuse_a_number(engine: str) -> None:
    """Elsewhere a cell sees the GPUs that it was given, under other numbers than here."""
    if _number(asked := _asked()) is not None:
        raise CannotStart(
            f"TRADEOFF_DEVICE is {asked!r}: that is a GPU of this machine, and {engine} chooses "
            "GPUs itself. Unset it, or set CUDA_VISIBLE_DEVICES where the workers start"
        )


class Local:
    """Processes of this machine, each on one of its GPUs if it has any."""

    def __init__(self, jobs: int | None, per_gpu: int) -> None:
        self._gpus = gpus()
        self._server = ExitStack()
        self._environment: dict[str, str] = {}
        if VARIABLE not in os.environ:  # set and empty, it means that no server is wanted
            self._environment |= self._server.enter_context(warm())
        if self._gpus and _number(_asked()) is not None:
            self._environment["TRADEOFF_DEVICE"] = "cuda"  # a cell sees only the one it is given
        self.slots = jobs or len(self._gpus) * per_gpu or os.cpu_count() or 1
        self._running: dict[str, tuple[int, subprocess.Popen[bytes], str]] = {}

    def start(self, cell: str, order: Order) -> None:
        taken = {slot for slot, _, _ in self._running.values()}
        slot = next(slot for slot in range(self.slots) if slot not in taken)
        environment = dict(self._environment)
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[slot % len(self._gpus)]
        self._running[cell] = (slot, start_cell(*order, environment), order[0])

    def ended(self) -> dict[str, int | None]:
        statuses: dict[str, int | None] = {}
        for cell, (_, process, folder) in list(self._running.items()):
            if (status := process.poll()) is not None:
                statuses[cell] = status if status >= 0 else None
                stop_cell(process, folder)  # what a killed DVC has left
                del self._running[cell]
        return statuses

    def stop(self) -> None:
        for _, process, folder in self._running.values():
            stop_cell(process, folder)
        self._running.clear()
        self._server.close()


class Ray:
    """Tasks on a Ray cluster; `address` None starts one on this machine.

    Raises:
        CannotStart: there is no Ray, no such cluster, or TRADEOFF_DEVICE is a GPU's number.
    """

    def __init__(self, address: str | None, jobs: int | None, per_gpu: int) -> None:
        _refuse_a_number("Ray")
        try:
            import ray
        except ImportError:
            raise CannotStart(
                "Ray is not installed: pip install -r requirements-cluster.lock"
            ) from None
        self._ray = ray
        source = Path(__file__).resolve().parents[2]
        device = {"TRADEOFF_DEVICE": _asked()} if _asked() else {}
        try:
            ray.init(
                address=address,
                num_cpus=jobs if address is None else None,
                include_dashboard=False if address is None else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": {"PYTHONPATH": str(source), **device}},
            )
        except Exception as error:  # of a dozen kinds, for what is all one here
            where = "on this machine" if address is None else f"at {address!r}"
            raise CannotStart(f"no Ray {where}: {error}") from None
        there: dict[str, float] = ray.cluster_resources()
        with_gpus = bool(there.get("GPU")) and _asked() != "cpu"
        room = there["GPU"] * per_gpu if with_gpus else there["CPU"]
        self.slots = min(jobs, int(room)) if jobs else max(1, int(room))
        # The head retries, in a new worktree: a retry by Ray could meet what a dead worker left.
        needs = {"num_gpus": 1 / per_gpu, "num_cpus": 0} if with_gpus else {"num_cpus": 1}
        self._task = ray.remote(max_retries=0, **needs)(run_cell)
        self._running: dict[Any, tuple[str, str]] = {}

    def start(self, cell: str, order: Order) -> None:
        self._running[self._task.remote(*order)] = (cell, order[0])

    def ended(self) -> dict[str, int | None]:
        if not self._running:
            return {}
        statuses: dict[str, int | None] = {}
        ready, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        for task in ready:
            cell, _ = self._running.pop(task)
            try:
                statuses[cell] = self._ray.get(task)
            except self._ray.exceptions.RayError:
                statuses[cell] = None
        return statuses

    def stop(self) -> None:
        for task in self._running:
            self._ray.cancel(task)
        if self._running:
            self._ray.wait(list(self._running), num_returns=len(self._running), timeout=30)
        self._running.clear()
        self._ray.shutdown()


class Submitit:
    """Jobs of Slurm; `options` go to submitit, such as slurm_partition=gpu or timeout_min=600."""

    def __init__(self, root: Path, options: Sequence[str], jobs: int | None) -> None:
        _refuse_a_number("Slurm")
        try:
            import submitit
        except ImportError:
            raise CannotStart(
                "submitit is not installed: pip install -r requirements-cluster.lock"
            ) from None
        given = dict(option.split("=", 1) for option in options if "=" in option)
        if len(given) < len(options):
            raise CannotStart("an option of --slurm is NAME=VALUE, such as slurm_partition=gpu")
        if {"name", "slurm_job_name"} & given.keys():
            raise CannotStart("the jobs' name is no option of --slurm: they are known by it")
        cluster = given.pop("cluster", "slurm")
        try:
            self._executor = submitit.AutoExecutor(root / FOLDER, cluster=cluster)
            parameters = {name: int(v) if v.isdigit() else v for name, v in given.items()}
            own = {"name": job_name(root), "timeout_min": 24 * 60}
            self._executor.update_parameters(**own | parameters)
        except (RuntimeError, NameError, TypeError, ValueError) as error:
            raise CannotStart(f"submitit: {error}") from None
        self.slots = jobs or 1000
        self._running: dict[str, Any] = {}
        self._submitted = root / SUBMITTED
        if cluster == "slurm":  # other jobs are processes of this machine
            self._submitted.parent.mkdir(parents=True, exist_ok=True)
            self._submitted.touch()

    def start(self, cell: str, order: Order) -> None:
        self._running[cell] = self._executor.submit(run_cell, *order)

    def ended(self) -> dict[str, int | None]:
        statuses: dict[str, int | None] = {}
        for cell, job in list(self._running.items()):
            if job.done():
                try:
                    statuses[cell] = job.result()
                except Exception:  # submitit raises what the job raised, or its own
                    statuses[cell] = None
                    job.cancel(check=False)  # Slurm queues the jobs of a lost node again
                del self._running[cell]
        return statuses

    def stop(self) -> None:
        for job in self._running.values():
            job.cancel(check=False)
        if not self._running:  # else the next run waits until they are gone
            self._submitted.unlink(missing_ok=True)
        self._running.clear()
