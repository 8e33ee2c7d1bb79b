"""The thesis's metrics, equations 5.1 to 5.4, computed from ledgers. All in [0, 1].

An image counts as robust only if every attack of the suite failed on it and its clean
prediction is right.
"""

import numpy as np

from tradeoff.attacks.suites.ledger import Array, Ledger


def natural(ledger: Ledger, version: str) -> Array:
    """Which images are classified correctly as they are, (n,) bool."""
    return ledger["clean_prediction"][ledger.version(version)] == ledger["labels"]


def robust(ledger: Ledger, version: str, attack: str | None = None) -> Array:
    """Which images are right as they are and under `attack`, or under all attacks, (n,) bool.

    For a part of an ensemble: under it and the parts before it.
    """
    v = ledger.version(version)
    right = natural(ledger, version)
    if attack is None:
        return right & ~ledger["fooled"][v].any(0)
    a = ledger.attacks.index(attack)
    # What an ensemble did not adversarial any more, an attack before had fooled already.
    return right & ledger["attempted"][v, a] & ~ledger["fooled"][v, a]


def by_class(right: Array, labels: Array, classes: int) -> Array:
    """Accuracy of each class, (classes,); NaN where a class has no image."""
    counts = np.bincount(labels, minlength=classes)
    with np.errstate(invalid="ignore"):
        return np.bincount(labels, weights=right, minlength=classes) / counts


def joint(bounded: Ledger, autoattack: Ledger) -> tuple[Array, Array]:
    """Which images the selected model gets right: as they are, and under both suites, (n,) bool.

    On the first n images, n the smaller number of the two suites.
    """
    count = min(len(bounded["labels"]), len(autoattack["labels"]))
    parts = (bounded.first(count), autoattack.first(count))
    return natural(parts[0], "best"), robust(parts[0], "best") & robust(parts[1], "best")


def suite_metrics(ledger: Ledger) -> dict[str, float]:
    """A suite's own metrics for the selected model, and RA of the last one if it was attacked."""
    right, held = natural(ledger, "best"), robust(ledger, "best")
    metrics = accuracies(right, held)
    if "last" in ledger.versions:
        metrics["RA_last"] = float(robust(ledger, "last").mean())
    return metrics


def accuracies(right: Array, held: Array) -> dict[str, float]:
    """NA, RA, RD and ASR, equations 5.2, 5.1, 5.3 and 5.4, of (n,) bool each.

    ASR = 1 - RA; ASR_correct is the success rate over the images that were right before.
    """
    na, ra = float(right.mean()), float(held.mean())
    successes = float((right & ~held).sum() / max(right.sum(), 1))
    return {"NA": na, "RA": ra, "RD": na - ra, "ASR": 1 - ra, "ASR_correct": successes}


def worst_class(held: Array, labels: Array, classes: int) -> float:
    """The least RA of any class, which several classes may have."""
    return float(np.nanmin(by_class(held, labels, classes)))
