"""How well a classifier that can refuse tells attacked images, from the scores in its ledgers, and
what it is worth that it rejects them (Stutz et al. 2020, section 4.1).

An image is rejected, or flagged, if its score is above the model's threshold, which 5 % of the
validation images exceed. The attacked images are those that fooled the model: an example that is
classified correctly does no harm, whether it is flagged or not. Of several attacks each image's
worst attempt counts, the one that is surest of a wrong class, not the first that fools.
"""

import math
from typing import Any

import numpy as np
import pandas as pd

from tradeoff.attacks.suites.ledger import Array, Ledger
from tradeoff.core.tables import TABLES
from tradeoff.evaluation.metrics import correct_images
from tradeoff.evaluation.summary import CellLedgers

ALARMS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # rates at which the ROC is kept


def least_confidence(confidence: Array, correct: Array, kept: float) -> float:
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
    return share_among(errors, kept | kept_attacked)


def share_among(of: Array, among: Array) -> float:
    """The share of some among others (n,) bool; 0 where there are none, as nothing is wrong."""
    return float((of & among).sum() / among.sum()) if among.any() else 0.0


def area_under_curve(positive: Array, negative: Array) -> float:
    """The probability that a positive's score is above a negative's; ties count half."""
    scores = np.concatenate([positive, negative])
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place][: len(positive)]
    above = ranks.sum() - len(positive) * (len(positive) + 1) / 2
    return float(above / (len(positive) * len(negative)))


def with_rejection(
    right_clean: Array, right_attacked: Array, flagged_clean: Array, flagged_attacked: Array
) -> dict[str, float]:
    """Accuracies of a classifier that may refuse, from four booleans of each image (n,).

    NA_rejecting: right and accepted as it is. coverage: accepted as it is. selective_accuracy:
    right among those. RA_rejecting: counted in NA_rejecting, and under attack right or flagged.
    evaded: the difference.
    """
    counted = right_clean & ~flagged_clean
    robust = counted & (right_attacked | flagged_attacked)
    accepted = max(int((~flagged_clean).sum()), 1)
    return {
        "NA_rejecting": float(counted.mean()),
        "coverage": float((~flagged_clean).mean()),
        "selective_accuracy": float(counted.sum() / accepted),
        "RA_rejecting": float(robust.mean()),
        "evaded": float(counted.mean() - robust.mean()),
    }


def robust_errors(
    right: Array, clean: Array, fooled: Array, attacked: Array, threshold: float
) -> dict[str, float]:
    """How much is wrong of what is accepted, clean or attacked (Stutz et al. 2020).

    RErr_all: if nothing is rejected. RErr: by the model's threshold. RErr_99: by the one that keeps
    99 % of these images that are right as they are, and rejects nothing where none is.

    Args:
        right, clean: of the images as they are, (n,): classified correctly, and scores.
        fooled, attacked: the same of their worst attempts, fooled where one fools.
    """
    keeping = least_confidence(-clean, right, 0.99) if right.any() else -np.inf
    return {
        name: robust_error(~right, -clean, fooled, -attacked, least)
        for name, least in {"RErr_all": -np.inf, "RErr": -threshold, "RErr_99": keeping}.items()
    }


def detection_table(cells: list[CellLedgers]) -> pd.DataFrame:
    """A row for each attack on each selected model that can refuse, and for all of a suite."""
    rows: list[dict[str, Any]] = []
    for ledgers in cells:
        for ledger in (ledgers.bounded, ledgers.autoattack):
            threshold = ledger.about.get("rejection_thresholds", {}).get("best")
            if threshold is None:
                continue
            version = ledger.version("best")
            places = {name: [a] for a, name in enumerate(ledger.attacks)}
            for attack, chosen in (places | {ledger.about["suite"]: [*range(len(places))]}).items():
                rows.append(
                    ledgers.identity
                    | {"attack": attack, "images": len(ledger["labels"])}
                    | _detection(ledger, version, chosen, threshold)
                )
    columns = [*TABLES["detection"].names, *(f"detected_at_{alarms:.0%}" for alarms in ALARMS)]
    return pd.DataFrame(rows, columns=columns)


def _detection(
    ledger: Ledger, version: int, attacks: list[int], threshold: float
) -> dict[str, float]:
    """Of some of a ledger's attacks together: an image is evaded if one of them evades, and its
    worst attempt is of those that fool, or else of all, the least suspicious one."""
    right = correct_images(ledger, ledger.versions[version])
    clean, scores = ledger["clean_rejection"][version], ledger["rejection"][version][attacks]
    harmful = (ledger["attempted"] & ledger["fooled"])[version][attacks]
    attempts = np.where(ledger["attempted"][version][attacks], scores, np.inf)
    fooled, examples = harmful.any(0), scores[harmful]
    worst = np.where(harmful | ~fooled, attempts, np.inf).min(0)
    evaded = (harmful & (scores <= threshold)).any(0)
    nothing = np.zeros_like(right)
    return (
        {
            "examples": len(examples),
            "threshold": threshold,
            "area": area_under_curve(examples, clean) if len(examples) else np.nan,
            "false_alarms": share(clean > threshold),
            "detected": share(examples > threshold),
        }
        | with_rejection(right, ~evaded, clean > threshold, nothing)
        | robust_errors(right, clean, fooled, worst, threshold)
        | {f"detected_at_{a:.0%}": share(examples > _alarm(clean, a)) for a in ALARMS}
    )


def _alarm(clean: Array, rate: float) -> float:
    """The threshold that at most this share of the clean scores is above."""
    ranked = np.append(np.sort(clean)[::-1], -np.inf)
    return float(ranked[int(np.floor(rate * len(clean) + 1e-9))])


def share(flags: Array) -> float:
    """The share of images flagged; NaN where there are none."""
    return float(flags.mean()) if len(flags) else np.nan


def asking_table(cells: list[CellLedgers]) -> pd.DataFrame:
    """What it takes to ask each classifier that is more than its network.

    A prediction takes a pass at least. Ledgers have 0 where the score by which a classifier rejects
    asks no network that predicts: PixelDefend's asks its density model.
    """
    rows = [
        ledgers.identity
        | {
            "forward_passes": max(1, about["forward_passes"]),
            "calibration_images": about["calibration_images"],
        }
        for ledgers in cells
        if "forward_passes" in (about := ledgers.bounded.about)
    ]
    return pd.DataFrame(rows, columns=TABLES["asking"].names)
