"""From the ledgers of a data set's cells to its tables: one row per cell, one per accuracy."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tradeoff.evaluation.ledger import Ledger
from tradeoff.evaluation.metrics import by_class, cell_metrics, natural, robust
from tradeoff.files import whole
from tradeoff.study import Cell

DIGITS = 6  # of numbers in files: enough to tell any two accuracies apart


def cell_table(ledgers: Iterable[tuple[Cell, Ledger]]) -> pd.DataFrame:
    """One row per cell: defense, architecture, seed, images and `cell_metrics`."""
    rows = [
        _identity(cell) | {"images": len(ledger["labels"])} | cell_metrics(ledger)
        for cell, ledger in ledgers
    ]
    return pd.DataFrame(rows).round(DIGITS)


def attack_table(ledgers: Iterable[tuple[Cell, Ledger]]) -> pd.DataFrame:
    """Accuracy per cell, version, attack ("natural", each, "all") and class ("all", each)."""
    rows: list[dict[str, Any]] = []
    for cell, ledger in ledgers:
        labels, classes = ledger["labels"], ledger.about["classes"]
        counts = np.bincount(labels, minlength=classes)
        for version in ledger.versions:
            right = {"natural": natural(ledger, version)}
            right |= {name: robust(ledger, version, name) for name in ledger.attacks}
            right["all"] = robust(ledger, version)
            for attack, held in right.items():
                about = _identity(cell) | {"version": version, "attack": attack}
                rows.append(
                    about | {"class": "all", "images": len(labels), "accuracy": held.mean()}
                )
                accuracies = by_class(held, labels, classes)
                rows += [
                    about | {"class": str(label), "images": count, "accuracy": accuracy}
                    for label, (count, accuracy) in enumerate(zip(counts, accuracies, strict=True))
                ]
    return pd.DataFrame(rows).round(DIGITS)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, whole or not at all."""
    with whole(path) as partial:
        table.to_csv(partial, index=False, lineterminator="\n")


def means(cells: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """NA, RA, RD, ASR and worst-class RA by architecture and defense, means over seeds."""
    metrics = ["NA", "RA", "RD", "ASR", "RA_worst_class"]
    grouped = cells.groupby(["architecture", "defense"], sort=False)[metrics].mean().round(4)
    nested: dict[str, dict[str, dict[str, float]]] = {}
    for row in grouped.reset_index().to_dict("records"):
        place = nested.setdefault(row["architecture"], {})
        place[row["defense"]] = {name: float(row[name]) for name in metrics}
    return nested


def _identity(cell: Cell) -> dict[str, Any]:
    return {"defense": cell.defense, "architecture": cell.architecture, "seed": cell.seed}
