"""Ledgers written by hand."""

from dataclasses import replace
from typing import Any

import numpy as np

from tradeoff.attacks.suites.ledger import CHECKS, Ledger, save_ledger
from tradeoff.core.study import Cell

LABELS = [0, 0, 1, 1, 2]
CLEAN = {"best": [0, 0, 1, 0, 2], "last": [0, 1, 1, 1, 0]}  # predictions: 4 and 3 right
FOOLED = {
    "best": {"pgd": [1, 0, 0, 1, 0], "fgsm": [0, 0, 1, 1, 0]},
    "last": {"pgd": [1, 1, 0, 1, 1], "fgsm": [0, 1, 0, 1, 1]},
}


def suites(square: list[int] | None = None) -> dict[str, Ledger]:
    """A cell's ledgers by suite. Right: 1 1 1 0 1. Held under the bounded suite: 0 1 0 0 1, and
    under AutoAttack too unless `square` fools more."""
    auto = ledger(
        {"best": {"apgd-ce": [1, 0, 0, 0, 0], "square": square or [0, 0, 0, 0, 0]}},
        attempted={"apgd-ce": [1, 1, 1, 0, 1], "square": [0, 1, 1, 0, 1]},
        suite="autoattack",
    )
    minimal = ledger(
        {"best": {"fmn_l2": [1, 1, 0, 1, 1], "other": [0, 1, 1, 1, 0]}},
        norms={"fmn_l2": [0.1, 0.4, 9.0, 0.2, 0.3], "other": [9.0, 0.2, 0.3, 0.0, 9.0]},
        suite="minimal",
    )
    return {"bounded": ledger(), "autoattack": auto, "minimal": minimal}


def write_ledger(cell: Cell, suite: str, square: list[int] | None = None) -> None:
    """Write one of `suites` as that of a cell."""
    found = suites(square)[suite]
    about = found.about | {"cell": cell.key} | cell.dataset.evaluation(suite)
    save_ledger(replace(found, about=about), cell.ledger(suite))


def ledger(
    fooled: dict[str, dict[str, list[int]]] | None = None,
    labels: list[int] = LABELS,
    clean: dict[str, list[int]] = CLEAN,
    attempted: dict[str, list[int]] | None = None,
    norms: dict[str, list[float]] | None = None,
    suite: str = "bounded",
) -> Ledger:
    """A ledger of three classes.

    Args:
        fooled: by version and attack, one number per image; the default is FOOLED.
        attempted: by attack; every image where an attack is not named.
        norms: l2 by attack, l0 and linf are 1; 1 where an attack is not named.
    """
    fooled = FOOLED if fooled is None else fooled
    versions = tuple(fooled)
    attacks = tuple(fooled[versions[0]])
    count = len(labels)
    truth = np.array([[fooled[v][a] for a in attacks] for v in versions], dtype=bool)
    tried = np.array([[(attempted or {}).get(a, [1] * count) for a in attacks]] * len(versions))
    l2 = np.array([[(norms or {}).get(a, [1.0] * count) for a in attacks]] * len(versions))
    predictions = np.array([clean[v] for v in versions])
    per_image = np.ones((len(versions), count))
    columns: dict[str, Any] = {
        "labels": np.array(labels),
        "clean_prediction": predictions,
        "clean_margin": np.where(predictions == labels, 1.0, -1.0),
        "clean_confidence": 0.75 * per_image,
        "attempted": tried.astype(bool),
        "fooled": truth,
        "prediction": np.where(truth, (np.array(labels) + 1) % 3, labels),
        "margin": np.where(truth, -1.5, 0.5),
        "l0": np.ones(truth.shape),
        "l2": l2,
        "linf": np.ones(truth.shape),
        "queries": np.full(truth.shape, 7),
        "gradients": np.full(truth.shape, 5.0),
    }
    columns |= dict.fromkeys(CHECKS, np.nan * per_image)
    about = {"cell": "trades-resnet18-digits-0", "suite": suite, "classes": 3}
    return Ledger(versions, attacks, columns, about)
