"""One row of the training history per epoch, gathered on the device without waiting for it."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tradeoff.core.files import atomic_write
from tradeoff.training.contract import Loss

Row = dict[str, float]

QUANTILES = (0.1, 0.5, 0.9)
# Of an epoch, but never the same twice: kept in timings/ and in no file that git has.
MEASURED = ("seconds", "peak_memory_mib")


class EpochRecord:
    """What `Loss` reports in an epoch; read once, at the end of the epoch."""

    def __init__(self, classes: int, device: torch.device) -> None:
        self._classes = classes
        self._sums: dict[str, Tensor] = {}
        self._samples: dict[str, list[Tensor]] = {}
        self._labels: list[Tensor] = []
        self._steps = 0
        self._first_bad = torch.full((), -1, device=device)

    @torch.no_grad()
    def add(self, loss: Loss, labels: Tensor, share: float = 1.0, last: bool = True) -> None:
        """Take in a step, or of one that is done in parts the part with `share` of its images."""
        bad = (self._first_bad < 0) & ~loss.total.isfinite()
        self._first_bad = torch.where(bad, self._steps, self._first_bad)
        self._steps += last
        self._add("loss", loss.total.detach(), share)
        for name, value in loss.parts.items():
            self._add(f"loss_{name}", value, share)
        for name, values in loss.classes.items():
            self._add(f"class_{name}", values, share)
        for name, values in loss.samples.items():
            self._samples.setdefault(name, []).append(values)
        if loss.samples:
            self._labels.append(labels)

    def _add(self, name: str, value: Tensor, share: float) -> None:
        value = value.float()  # autocast leaves some in bfloat16, in which a sum stands still
        self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + share * value

    def first_bad_step(self) -> int | None:
        """The first step whose loss was not finite, if there was one."""
        step = int(self._first_bad)
        return step if step >= 0 else None

    def row(self) -> Row:
        """Means over steps; of numbers per image mean, spread, quantiles and class means."""
        row: Row = {}
        for name, value in self._sums.items():
            if value.dim():
                row |= _numbered(name, (value / self._steps).tolist())
            else:
                row[name] = float(value) / self._steps
        if self._samples:
            labels = torch.cat(self._labels).cpu()
            for name, parts in self._samples.items():
                row |= _spread(name, torch.cat(parts).cpu().double(), labels, self._classes)
        return row

    def state_dict(self) -> dict[str, Any]:
        """Everything that was taken in."""
        return {
            "sums": self._sums,
            "samples": self._samples,
            "labels": self._labels,
            "steps": self._steps,
            "first_bad": self._first_bad,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what another record had taken in."""
        device = self._first_bad.device
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}
        self._samples = {
            name: [part.to(device) for part in parts] for name, parts in state["samples"].items()
        }
        self._labels = [part.to(device) for part in state["labels"]]
        self._steps = state["steps"]
        self._first_bad = state["first_bad"].to(device)


def _spread(name: str, values: Tensor, labels: Tensor, classes: int) -> Row:
    counts = torch.bincount(labels, minlength=classes).clamp_min(1)
    by_class = torch.zeros(classes, dtype=values.dtype).index_add_(0, labels, values) / counts
    row = {f"{name}_mean": float(values.mean()), f"{name}_std": float(values.std(correction=0))}
    ordered = values.sort().values  # torch.quantile takes no more than 16 million numbers
    for share in QUANTILES:
        row[f"{name}_q{round(100 * share)}"] = float(ordered[round(share * (len(ordered) - 1))])
    return row | _numbered(name, by_class.tolist())


def _numbered(name: str, values: Sequence[float]) -> Row:
    return {f"{name}_{index}": value for index, value in enumerate(values)}


def write_history(rows: list[Row], path: Path) -> None:
    """Write the epochs as CSV, whole or not at all; a column that an epoch lacks stays empty.

    What was MEASURED is left out: training again gives the same file.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row if name not in MEASURED))
    with atomic_write(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: f"{value:.6g}" for name, value in row.items()})
