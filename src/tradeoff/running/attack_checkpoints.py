"""What an interrupted suite has done, so that the next run goes on from there.

Each attack's result on a batch is a small file in a folder whose name is a hash of everything
that determines it: the model's weights and its logits, images, budgets, batch size and this
package's code. Anything changed starts anew; a finished suite deletes its folder.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from torch import Tensor, nn

from tradeoff.attacks.suites.kept import Parts
from tradeoff.core.files import atomic_write
from tradeoff.running.fingerprint import fingerprint

CODE = ("networks/*.py", "attacks/*.py", "attacks/suites/*.py")


class Checkpoints:
    """Results by name in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(
        self, model: nn.Module, images: Tensor, labels: Tensor, logits: Tensor, about: Any
    ) -> "Checkpoints":
        """The part that belongs to this model, these images and budgets, and today's code.

        Args:
            logits: the model's, of the images: weights do not tell what is computed with them.
            about: what JSON can hold of all else.
        """
        tensors = [*model.state_dict().values(), images, labels, logits]
        return Checkpoints(self._folder / f"suite-{fingerprint(about, tensors, CODE)}")

    def get(self, name: str, compute: Callable[[], Parts]) -> Parts:
        """The result kept under `name`, else that of `compute`, which is kept."""
        path = self._folder / f"{name}.npz"
        try:
            with np.load(path, allow_pickle=False) as file:
                parts: Parts = {}
                for key in file.files:
                    row, _, column = key.rpartition("/")
                    parts.setdefault(row, {})[column] = file[key]
                return parts
        except (OSError, EOFError, BadZipFile, ValueError):  # not there, or cut off by a crash
            pass
        parts = compute()
        flat: dict[str, Any] = {
            f"{row}/{column}": values
            for row, columns in parts.items()
            for column, values in columns.items()
        }
        with atomic_write(path) as partial, partial.open("wb") as file:
            np.savez(file, **flat)
        return parts

    def done(self) -> None:
        """Forget everything: the suite is finished."""
        shutil.rmtree(self._folder, ignore_errors=True)
