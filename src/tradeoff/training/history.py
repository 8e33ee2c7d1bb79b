"""One row of the training history per epoch, gathered on the device without waiting for it."""

import csv
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from tradeoff.core.files import whole
from tradeoff.defenses.contract import Loss

Row = dict[str, float]


class EpochRecord:
    """Sums over an epoch's steps of what `Loss` reports; read once, at the end of the epoch."""

    def __init__(self, classes: int, device: torch.device) -> None:
        self._classes = classes
        self._device = device
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._images = torch.zeros(classes, device=device)
        self._first_bad = torch.full((), -1, device=device)

    @torch.no_grad()
    def add(self, loss: Loss, labels: Tensor) -> None:
        """Take in one step."""
        bad = (self._first_bad < 0) & ~loss.total.isfinite()
        self._first_bad = torch.where(bad, self._steps, self._first_bad)
        self._steps += 1
        self._add("loss", loss.total.detach())
        for name, value in loss.parts.items():
            self._add(f"loss_{name}", value)
        for name, values in loss.classes.items():
            self._add(f"class_{name}", values)
        self._images += torch.bincount(labels, minlength=self._classes)
        for name, values in loss.samples.items():
            by_class = torch.zeros(self._classes, device=self._device, dtype=values.dtype)
            self._add(f"{name}_sum", by_class.index_add_(0, labels, values))
            self._add(f"{name}_squares", values.square().sum())

    def _add(self, name: str, value: Tensor) -> None:
        self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value

    def first_bad_step(self) -> int | None:
        """The first step whose loss was not finite, if there was one."""
        step = int(self._first_bad)
        return step if step >= 0 else None

    def row(self) -> Row:
        """Means over steps; for numbers per image mean, standard deviation and class means."""
        row: Row = {}
        total = float(self._images.sum())
        for name, value in self._sums.items():
            if name.endswith("_squares"):
                continue
            if name.endswith("_sum"):
                stem = name.removesuffix("_sum")
                mean = float(value.sum()) / total
                variance = float(self._sums[f"{stem}_squares"]) / total - mean**2
                row |= {f"{stem}_mean": mean, f"{stem}_std": max(variance, 0.0) ** 0.5}
                row |= _numbered(stem, (value / self._images.clamp_min(1)).tolist())
            elif value.dim():
                row |= _numbered(name, (value / self._steps).tolist())
            else:
                row[name] = float(value) / self._steps
        return row


def _numbered(name: str, values: Sequence[float]) -> Row:
    return {f"{name}_{index}": value for index, value in enumerate(values)}


def write_history(rows: list[Row], path: Path) -> None:
    """Write the epochs as CSV, whole or not at all; a column that an epoch lacks stays empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with whole(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: f"{value:.6g}" for name, value in row.items()})
