"""What a classifier is worth that rejects what it is unsure of (Stutz et al. 2020, section 4.1).

A threshold of confidence is chosen on clean images that are held out, such that a share of those
classified correctly is kept: the rate of true positives. All rates after that are shares of what
is kept. Of several attacks each image's worst attempt counts, the one that is surest of a wrong
class, not the first that fools.
"""

import math

import numpy as np

from tradeoff.attacks.suites.ledger import Array


def threshold(confidence: Array, correct: Array, kept: float) -> float:
    """The confidence from which on images are accepted.

    Args:
        confidence: of held-out clean images, the largest probability, (n,).
        correct: which of them are classified correctly, (n,) bool.
        kept: the least share of the correct ones to accept, such as 0.99; two decimals count.

    Raises:
        ValueError: the share is outside (0, 1], or no image is correct.
    """
    if not 0 < kept <= 1:
        raise ValueError(f"the share of images to keep is {kept}; it must be above 0, at most 1")
    if not correct.any():
        raise ValueError("none of the held-out images is classified correctly: no threshold")
    ranked = np.sort(confidence[correct])
    return float(ranked[math.floor(len(ranked) * round(1 - kept, 2))])


def worst_attempts(rival: Array) -> Array:
    """The attempt on each image that is surest of a wrong class: (attempts, n) -> (n,) int64."""
    return np.asarray(rival.argmax(0))


def robust_error(
    wrong: Array, confidence: Array, fooled: Array, attacked: Array, least: float
) -> float:
    """The share, of images that are accepted clean or attacked, that are accepted and wrong.

    Args:
        wrong, confidence: of the clean images, (n,): misclassified, and how sure.
        fooled, attacked: of the same images under attack: misclassified, and how sure.
        least: the threshold; 0 rejects nothing.
    """
    kept, kept_attacked = confidence >= least, attacked >= least
    errors = (wrong & kept) | (fooled & kept_attacked)
    return share(errors, kept | kept_attacked)


def false_positive_rate(wrong: Array, fooled: Array, attacked: Array, least: float) -> float:
    """The share of all images whose attack succeeds, is accepted, and was needed."""
    return float((fooled & ~wrong & (attacked >= least)).mean())


def share(of: Array, among: Array) -> float:
    """The share of some among others (n,) bool; 0 where there are none, as nothing is wrong."""
    return float((of & among).sum() / among.sum()) if among.any() else 0.0


def area_under_curve(positive: Array, negative: Array) -> float:
    """The probability that a positive's score is above a negative's; ties count half."""
    scores = np.concatenate([positive, negative])
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place][: len(positive)]
    above = ranks.sum() - len(positive) * (len(positive) + 1) / 2
    return float(above / (len(positive) * len(negative)))
