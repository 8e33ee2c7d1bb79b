"""The thesis's metrics, equations 5.1 to 5.4, computed from a ledger. All in [0, 1].

An image counts as robust only if every attack of the suite failed on it and its clean
prediction is right.
"""

from typing import Any

import numpy as np

from tradeoff.evaluation.ledger import Array, Ledger


def natural(ledger: Ledger, version: str) -> Array:
    """Which images are classified correctly as they are, (n,) bool."""
    return ledger["clean_prediction"][ledger.version(version)] == ledger["labels"]


def robust(ledger: Ledger, version: str, attack: str | None = None) -> Array:
    """Which images are classified correctly under `attack`, or under all of them, (n,) bool."""
    v = ledger.version(version)
    if attack is not None:
        return ~ledger["fooled"][v, ledger.attacks.index(attack)]
    return natural(ledger, version) & ~ledger["fooled"][v].any(0)


def by_class(right: Array, labels: Array, classes: int) -> Array:
    """Accuracy of each class, (classes,); NaN where a class has no image."""
    counts = np.bincount(labels, minlength=classes)
    with np.errstate(invalid="ignore"):
        return np.bincount(labels, weights=right, minlength=classes) / counts


def cell_metrics(ledger: Ledger) -> dict[str, Any]:
    """The cell's metrics for the selected model, and NA and RA of the last one.

    NA and RA are equations 5.2 and 5.1, RD = NA - RA is 5.3, ASR = 1 - RA is 5.4; ASR_correct is
    the success rate over the images that were right before the attack.
    """
    right, held = natural(ledger, "best"), robust(ledger, "best")
    per_class = by_class(held, ledger["labels"], ledger.about["classes"])
    na, ra = float(right.mean()), float(held.mean())
    return {
        "NA": na,
        "RA": ra,
        "RD": na - ra,
        "ASR": 1 - ra,
        "ASR_correct": float((right & ~held).sum() / max(right.sum(), 1)),
        "RA_worst_class": float(np.nanmin(per_class)),
        "worst_class": int(np.nanargmin(per_class)),
        "NA_last": float(natural(ledger, "last").mean()),
        "RA_last": float(robust(ledger, "last").mean()),
    }
