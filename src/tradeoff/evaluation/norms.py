"""Average perturbation norms and the robustness curve, from the ledger of minimum-norm attacks.

A minimum norm is the smallest that any attack reached: an upper bound on the true distance to the
decision boundary, so that every mean and every accuracy computed from it is an upper bound too.
"""

import math
from typing import Any, Literal

import numpy as np

from tradeoff.attacks.suites.ledger import Array, Ledger
from tradeoff.evaluation.metrics import correct_images

NORMS: tuple[Literal["l0", "l2", "linf"], ...] = ("l0", "l2", "linf")


def minimum_norms(ledger: Ledger, version: str, norm: Literal["l0", "l2", "linf"]) -> Array:
    """The least norm that changes each image's prediction from its label, (n,) float64.

    0 where the clean prediction is already wrong, infinite where no attack fooled the model. An
    attack counts in every norm, whichever it minimised: l0 in changed components, l2 and linf in
    units of the image range [0, 1].

    Raises:
        ValueError: an image that is classified correctly was not attacked.
    """
    v = ledger.version(version)
    correct = correct_images(ledger, version)
    missed = correct & ~ledger["attempted"][v].any(0)
    if missed.any():
        raise ValueError(
            f"version {version!r}: {missed.sum()} of {len(missed)} images were not attacked; "
            "they have no minimum norm"
        )
    return np.where(correct, nearest(ledger, version, norm), 0.0)


def nearest(ledger: Ledger, version: str, norm: Literal["l0", "l2", "linf"]) -> Array:
    """The least norm of any adversarial example of each image, (n,) float64; infinite without one.

    The ledger may be that of bounded attacks as well.
    """
    v = ledger.version(version)
    success = ledger["attempted"][v] & ledger["fooled"][v]
    return np.where(success, ledger[norm][v].astype(np.float64), math.inf).min(0)


def average_norms(minimum: Array) -> dict[str, Any]:
    """Means of minimum norms (n,), as from `minimum_norms`.

    Returns:
        APN: equation 5.5 of the thesis, the mean over all images, with 0 for an image that is
            misclassified anyway. An image that no attack fooled has no norm: it is left out, and
            what the mean over all images would be is not known.
        unfooled: the share of such images, in [0, 1].
        APN_fooled, APN_fooled_median: mean and median over the images that an attack fooled,
            without those that are misclassified anyway.

    A mean over no image is NaN.

    Raises:
        ValueError: there are no norms, or one is negative or NaN.
    """
    _check(minimum)
    finite = minimum[np.isfinite(minimum)]
    fooled = finite[finite > 0]
    unfooled = 1 - len(finite) / len(minimum)
    return {
        "APN": _mean(finite),
        "unfooled": unfooled,
        "APN_fooled": _mean(fooled),
        "APN_fooled_median": float(np.median(fooled)) if len(fooled) else math.nan,
    }


def robust_accuracy(minimum: Array, epsilons: Array) -> Array:
    """RA at each epsilon (k,), the share of images with a larger minimum norm, (k,) in [0, 1].

    At epsilon 0 it is the natural accuracy. A perturbation of norm epsilon is allowed, as in the
    threats of the bounded attacks.

    Raises:
        ValueError: there are no norms, or a norm or an epsilon is negative or NaN.
    """
    _check(minimum)
    epsilons = np.asarray(epsilons, dtype=np.float64)
    if not (epsilons >= 0).all():
        raise ValueError("an epsilon is negative or NaN")
    return 1 - np.searchsorted(np.sort(minimum), epsilons, side="right") / len(minimum)


def norm_metrics(ledger: Ledger, version: str) -> dict[str, dict[str, Any]]:
    """`average_norms` in each norm, by the norm's name."""
    return {norm: average_norms(minimum_norms(ledger, version, norm)) for norm in NORMS}


def _mean(values: Array) -> float:
    return float(values.mean()) if len(values) else math.nan


def _check(minimum: Array) -> None:
    if len(minimum) == 0 or not (minimum >= 0).all():  # false for NaN as well
        raise ValueError("there are no norms, or one of them is negative or NaN")
