"""Where jobs run: processes of this machine, a Ray cluster, or a Slurm cluster through submitit.

An engine starts jobs and says which have ended. It neither orders nor retries them.
"""

import importlib
import logging
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from tradeoff.cluster import worker
from tradeoff.cluster.clone import CannotStart
from tradeoff.cluster.slurm import FOLDER, SUBMITTED, job_name
from tradeoff.cluster.worker import Order


class Engine(Protocol):
    """Runs orders; `slots` of them at once."""

    slots: int

    def start(self, job: str, order: Order) -> None: ...

    def ended(self) -> dict[str, int | None]:
        """Jobs that have ended since the last call: exit status, None if the worker was lost."""

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
        allowed = ", ".join(f"cuda:{n}" for n in range(len(visible)))
        raise CannotStart(f"TRADEOFF_DEVICE is {asked!r}; allowed here: cpu, cuda, {allowed}")
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
    """Elsewhere a job sees the GPUs that it was given, under other numbers than here."""
    if _number(asked := _asked()) is not None:
        raise CannotStart(
            f"TRADEOFF_DEVICE is {asked!r}: that is a GPU of this machine, and {engine} chooses "
            "GPUs itself. Unset it, or set CUDA_VISIBLE_DEVICES where the workers start"
        )


def _library(module: str, name: str) -> Any:
    """A library that only some engine needs."""
    try:
        return importlib.import_module(module)
    except ImportError:
        message = f"{name} is not installed: pip install -r requirements-cluster.lock"
        raise CannotStart(message) from None


class Local:
    """Processes of this machine, each on one of its GPUs if it has any."""

    def __init__(self, jobs: int | None, per_gpu: int) -> None:
        self._gpus = gpus()
        self.slots = jobs or len(self._gpus) * per_gpu or os.cpu_count() or 1
        self._running: dict[str, tuple[int, subprocess.Popen[bytes]]] = {}

    def start(self, job: str, order: Order) -> None:
        taken = {slot for slot, _ in self._running.values()}
        slot = next(slot for slot in range(self.slots) if slot not in taken)
        environment = {}
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[slot % len(self._gpus)]
            if _number(_asked()) is not None:
                environment["TRADEOFF_DEVICE"] = "cuda"  # it sees only the one it is given
        self._running[job] = (slot, worker.start(order, environment))

    def ended(self) -> dict[str, int | None]:
        statuses: dict[str, int | None] = {}
        for job, (_, process) in list(self._running.items()):
            if (status := process.poll()) is not None:
                statuses[job] = status if status >= 0 else None
                worker.stop([process])  # what a killed one has left
                del self._running[job]
        return statuses

    def stop(self) -> None:
        worker.stop(process for _, process in self._running.values())
        self._running.clear()


class Ray:
    """Tasks on a Ray cluster; `address` None starts one on this machine.

    Raises:
        CannotStart: there is no Ray, no such cluster, or TRADEOFF_DEVICE is a GPU's number.
    """

    def __init__(self, address: str | None, jobs: int | None, per_gpu: int) -> None:
        _refuse_a_number("Ray")
        self._ray = ray = _library("ray", "Ray")
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
        resources: dict[str, float] = ray.cluster_resources()
        with_gpus = bool(resources.get("GPU")) and _asked() != "cpu"
        room = resources["GPU"] * per_gpu if with_gpus else resources["CPU"]
        self.slots = min(jobs, int(room)) if jobs else max(1, int(room))
        # The head retries: it knows which stages are done.
        needs = {"num_gpus": 1 / per_gpu, "num_cpus": 0} if with_gpus else {"num_cpus": 1}
        self._task = ray.remote(max_retries=0, **needs)(worker.run_order)
        self._running: dict[Any, str] = {}

    def start(self, job: str, order: Order) -> None:
        self._running[self._task.remote(order)] = job

    def ended(self) -> dict[str, int | None]:
        if not self._running:
            return {}
        statuses: dict[str, int | None] = {}
        ready, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        for task in ready:
            job = self._running.pop(task)
            try:
                statuses[job] = self._ray.get(task)
            except self._ray.exceptions.RayError:
                statuses[job] = None
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
        submitit = _library("submitit", "submitit")
        given = dict(option.split("=", 1) for option in options if "=" in option)
        if len(given) < len(options):
            raise CannotStart("an option of --slurm is NAME=VALUE, such as slurm_partition=gpu")
        if {"name", "slurm_job_name"} & given.keys():
            raise CannotStart("the jobs' name is no option of --slurm: they are known by it")
        cluster = given.pop("cluster", "slurm")
        try:
            self._executor = submitit.AutoExecutor(root / FOLDER, cluster=cluster)
            parameters = {name: int(v) if v.isdigit() else v for name, v in given.items()}
            defaults = {"name": job_name(root), "timeout_min": 24 * 60}
            self._executor.update_parameters(**defaults | parameters)
        except (RuntimeError, NameError, TypeError, ValueError) as error:
            raise CannotStart(f"submitit: {error}") from None
        self.slots = jobs or 1000
        self._running: dict[str, Any] = {}
        self._submitted = root / SUBMITTED
        if cluster == "slurm":  # other jobs are processes of this machine
            self._submitted.parent.mkdir(parents=True, exist_ok=True)
            self._submitted.touch()

    def start(self, job: str, order: Order) -> None:
        self._running[job] = self._executor.submit(worker.run_order, order)

    def ended(self) -> dict[str, int | None]:
        statuses: dict[str, int | None] = {}
        for job, submitted in list(self._running.items()):
            if submitted.done():
                try:
                    statuses[job] = submitted.result()
                except Exception:  # submitit raises what the job raised, or its own
                    statuses[job] = None
                    submitted.cancel(check=False)  # Slurm queues the jobs of a lost node again
                del self._running[job]
        return statuses

    def stop(self) -> None:
        for submitted in self._running.values():
            submitted.cancel(check=False)
        if not self._running:  # else the next run waits until they are gone
            self._submitted.unlink(missing_ok=True)
        self._running.clear()
