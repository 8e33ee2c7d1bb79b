"""The state of a cell in training on disk, so that an interrupted run goes on where it was."""

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tradeoff.core.files import atomic_write, checkpoints_folder
from tradeoff.core.study import Cell
from tradeoff.datasets.prepared import Prepared
from tradeoff.running.fingerprint import fingerprint
from tradeoff.training.plan import Plan

INTERVAL = 180.0  # seconds between two states within an epoch

CODE = (
    "attacks/outcome.py",
    "attacks/pgd.py",
    "certificates/**/*.py",
    "defenses/at.py",
    "defenses/trades.py",
    "networks/*.py",
    "training/*.py",
)


class TrainingCheckpoint:
    """A file with the last state of one cell.

    Args:
        interrupted: whether the process was asked to stop.
        interval: seconds between two states; None: INTERVAL within an epoch, and at its end.
    """

    def __init__(
        self,
        path: Path,
        interrupted: Callable[[], bool] = lambda: False,
        interval: float | None = None,
    ) -> None:
        self.interrupted = interrupted
        self._path = path
        self._interval = interval
        self._saved = time.monotonic()
        self._read: dict[str, Any] | None = None

    @property
    def due(self) -> bool:
        """Whether the last state is old enough for another."""
        return time.monotonic() - self._saved > (self._interval or INTERVAL)

    @property
    def due_after_epoch(self) -> bool:
        """The same at the end of an epoch, which counts as old enough where nothing is said."""
        return self._interval is None or self.due

    def load(self) -> dict[str, Any] | None:
        """The last state, on the CPU; None if there is none that can be read."""
        state, self._read = self._read, None
        if state is not None:
            return state
        try:
            state = torch.load(self._path, "cpu", weights_only=True)
            return state
        except Exception:  # whatever torch says of a file that is damaged or no state: begin anew
            return None

    def reached(self) -> tuple[int, int]:
        """Epoch and step, from 0, at which the last state goes on. It is kept for `load`."""
        self._read = self.load()
        return (0, 0) if self._read is None else (self._read["epoch"], self._read["step"])

    def save(self, state: dict[str, Any]) -> None:
        """Replace the last state, whole or not at all."""
        self._read = None
        with atomic_write(self._path) as partial:
            torch.save(state, partial)
        self._saved = time.monotonic()

    def done(self) -> None:
        """Forget it: the cell is trained."""
        shutil.rmtree(self._path.parent, ignore_errors=True)


def checkpoint_path(cell: Cell, model: nn.Module, data: Prepared, plan: Plan) -> Path:
    """Where the state of a cell is kept: named by everything that determines its result.

    Args:
        model: as it is before the first step.
    """
    device = next(model.parameters()).device.type
    about = {
        "cell": cell.key,
        "knobs": plan.knobs.model_dump(),
        "settings": plan.settings.model_dump(),
        "threat": asdict(plan.threat),
        "seed": plan.seed,
        "device": device,
        "arithmetic": cell.dataset.arithmetic,
        "threads": torch.get_num_threads() if device == "cpu" else None,
    }
    tensors = [*model.state_dict().values()]
    for base in plan.bases.values():
        tensors += base.state_dict().values()
    for subset in (data.train, data.validation):
        tensors += [subset.pixels, subset.labels]
    own = (f"archs/{cell.architecture}.py", f"defenses/{cell.defense}.py")
    name = fingerprint(about, tensors, [*CODE, *own])
    return checkpoints_folder() / f"train-{cell.key}-{name}" / "state.pt"
