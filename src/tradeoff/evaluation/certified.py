"""From ledgers of certificates to certified accuracy by radius."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from tradeoff.core.study import Cell
from tradeoff.core.tables import TABLES

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the threat's epsilon


def certified_table(cells: Iterable[Cell]) -> pd.DataFrame:
    """The certified accuracy, at radii up to epsilon, of each cell that has certificates.

    An image counts at a radius if the prediction is correct and proved to hold that far; an
    abstention counts nowhere. The radius is in the norm of the data set's threat.
    """
    rows: list[dict[str, Any]] = []
    for cell in cells:
        if not cell.certificates.exists():
            continue
        with np.load(cell.certificates, allow_pickle=False) as ledger:
            correct = ledger["prediction"] == ledger["labels"]
            radius, abstained = ledger["radius"], ledger["prediction"] < 0
        for share in SHARES:
            epsilon = share * cell.dataset.threat.epsilon
            rows.append(
                {
                    "defense": cell.defense,
                    "architecture": cell.architecture,
                    "seed": cell.seed,
                    "epsilon": round(epsilon, 6),
                    "images": len(correct),
                    "certified_accuracy": (correct & (radius >= epsilon)).mean(),
                    "abstained": abstained.mean(),
                }
            )
    return pd.DataFrame(rows, columns=TABLES["certified"].names)
