"""From ledgers of certificates to certified accuracy by radius, and to what attacks leave of it."""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from tradeoff.core.tables import TABLES
from tradeoff.evaluation.metrics import under_both_suites
from tradeoff.evaluation.summary import CellLedgers

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the threat's epsilon


class BrokenProof(Exception):
    """An attack has broken what was proved: a fault in bounds, attacks or model; names the cell."""


def certified_table(cells: Iterable[CellLedgers]) -> pd.DataFrame:
    """The certified accuracy, at radii up to epsilon, of each cell that has certificates.

    An image counts at a radius if the prediction is correct and proved to hold that far; an
    abstention counts nowhere. The radius is in the norm of the data set's threat. Beside it "gap":
    at epsilon, on the images that certificate and attacks both had, RA less certified accuracy.

    Raises:
        BrokenProof: an image is certain to hold at epsilon, and an attack has fooled it.
    """
    rows: list[dict[str, Any]] = []
    for ledgers in cells:
        cell = ledgers.cell
        if not cell.certificates.exists():
            continue
        with np.load(cell.certificates, allow_pickle=False) as ledger:
            correct = ledger["prediction"] == ledger["labels"]
            radius, abstained = ledger["radius"], ledger["prediction"] < 0
            is_certain = json.loads(str(ledger["about"])).get("certain", False)
        _, robust = under_both_suites(ledgers.bounded, ledgers.autoattack)
        proved = (correct & (radius >= cell.dataset.threat.epsilon))[: len(robust)]
        robust = robust[: len(proved)]
        if is_certain and (proved & ~robust).any():
            images = ", ".join(map(str, np.flatnonzero(proved & ~robust)))
            raise BrokenProof(
                f"{cell.certificates}: proves test images {images} up to epsilon, which attacks "
                f"have fooled; certify again with: dvc repro -f certify@{cell.key}"
            )
        for share in SHARES:
            epsilon = share * cell.dataset.threat.epsilon
            rows.append(
                ledgers.identity
                | {
                    "epsilon": round(epsilon, 6),
                    "images": len(correct),
                    "certified_accuracy": (correct & (radius >= epsilon)).mean(),
                    "abstained": abstained.mean(),
                    "gap": robust.mean() - proved.mean() if share == 1 else np.nan,
                }
            )
    return pd.DataFrame(rows, columns=[*TABLES["certified"].names, "gap"])
