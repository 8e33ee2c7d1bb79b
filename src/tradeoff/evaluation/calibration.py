"""Calibration: does a model's confidence on clean images equal its accuracy?"""

import numpy as np

from tradeoff.attacks.suites.ledger import Array, Ledger
from tradeoff.evaluation.metrics import correct_images

BINS = 15  # as in Guo et al. 2017


def expected_calibration_error(confidence: Array, correct: Array, bins: int = BINS) -> float:
    """ECE in [0, 1] (Guo et al. 2017, equation 3): the mean gap between confidence and accuracy in
    bins ((m - 1) / bins, m / bins], weighted by how many images each has.

    Sampling alone makes it positive: by about sqrt(2 bins p (1 - p) / (pi n)) for a calibrated
    model whose n images spread over the bins, each with accuracy p.

    Args:
        confidence: (n,) in [0, 1], the probability that the model gives to its prediction.
        correct: (n,) bool, whether that prediction is the label.

    Raises:
        ValueError: shapes differ, there are no images or bins, or a confidence is not in [0, 1].
    """
    if confidence.shape != correct.shape or confidence.ndim != 1 or len(confidence) == 0:
        raise ValueError(
            f"confidences {confidence.shape} and predictions {correct.shape}; "
            "two arrays (n,) with n >= 1 are needed"
        )
    if bins < 1:
        raise ValueError(f"bins is {bins}; at least one is needed")
    confidence = confidence.astype(np.float64)
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise ValueError("a confidence is NaN or outside [0, 1]")
    index = np.ceil(confidence * bins).astype(np.int64).clip(1) - 1
    gaps = np.bincount(index, weights=correct - confidence, minlength=bins)
    return float(abs(gaps).sum() / len(confidence))


def clean_calibration_error(ledger: Ledger, version: str, bins: int = BINS) -> float:
    """ECE of one model version on the clean images of a ledger."""
    confidence = ledger["clean_confidence"][ledger.version(version)]
    return expected_calibration_error(confidence, correct_images(ledger, version), bins)
