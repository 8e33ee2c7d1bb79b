"""The thesis's metrics, equations 5.1 to 5.4, computed from ledgers. All in [0, 1].

An image counts as robust only if every attack of the suite failed on it and its clean
prediction is correct.
"""

import numpy as np

from tradeoff.attacks.suites.ledger import Array, Ledger


def correct_images(ledger: Ledger, version: str) -> Array:
    """Which images are classified correctly as they are, (n,) bool."""
    return ledger["clean_prediction"][ledger.version(version)] == ledger["labels"]


def robust_images(ledger: Ledger, version: str, attack: str | None = None) -> Array:
    """Which images are classified correctly as they are and under attack, (n,) bool.

    Args:
        attack: which attack, on the first images alone if it was tried on these; a part of an
            ensemble stands for itself and the parts before it. None means all attacks, on all
            images.
    """
    v = ledger.version(version)
    correct = correct_images(ledger, version)
    if attack is None:
        return correct & ~ledger["fooled"][v].any(0)
    correct = correct[: ledger.tried(attack)]
    a = ledger.attacks.index(attack)
    # An image that this part of an ensemble did not attempt was fooled by a part before it.
    outcome = ledger["attempted"][v, a] & ~ledger["fooled"][v, a]
    return correct & outcome[: len(correct)]


def by_class(correct: Array, labels: Array, classes: int) -> Array:
    """Accuracy of each class, (classes,); NaN where a class has no image."""
    counts = np.bincount(labels, minlength=classes)
    with np.errstate(invalid="ignore"):
        return np.bincount(labels, weights=correct, minlength=classes) / counts


def under_both_suites(bounded: Ledger, autoattack: Ledger) -> tuple[Array, Array]:
    """Which images the selected model classifies correctly, of the first n, which both suites have.

    Returns:
        Those correct as they are, and those correct under all attacks of both suites, (n,) bool.
    """
    count = min(len(bounded["labels"]), len(autoattack["labels"]))
    suites = (bounded.first(count), autoattack.first(count))
    correct = correct_images(suites[0], "best")
    return correct, robust_images(suites[0], "best") & robust_images(suites[1], "best")


def suite_metrics(ledger: Ledger) -> dict[str, float]:
    """One suite's metrics for the selected model, and RA of the last one if it was attacked."""
    correct, robust = correct_images(ledger, "best"), robust_images(ledger, "best")
    metrics = accuracies(correct, robust)
    if "last" in ledger.versions:
        metrics["RA_last"] = float(robust_images(ledger, "last").mean())
    return metrics


def accuracies(correct: Array, robust: Array) -> dict[str, float]:
    """NA, RA, RD and ASR: equations 5.2, 5.1, 5.3 and 5.4 of the thesis.

    ASR = 1 - RA; ASR_correct is the success rate over the images that were correct before.

    Args:
        correct, robust: (n,) bool, which images are correct as they are, and under attack too.
    """
    na, ra = float(correct.mean()), float(robust.mean())
    successes = float((correct & ~robust).sum() / max(correct.sum(), 1))
    return {"NA": na, "RA": ra, "RD": na - ra, "ASR": 1 - ra, "ASR_correct": successes}


def worst_class(robust: Array, labels: Array, classes: int) -> float:
    """The least RA of any class."""
    return float(np.nanmin(by_class(robust, labels, classes)))
