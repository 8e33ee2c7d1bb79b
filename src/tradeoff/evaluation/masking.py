"""Is a model robust, or are its attacks misled? Each flag is a number and a threshold.

The signs are those of Athalye et al. 2018 (section 3.1) and Carlini et al. 2019 (section 4). A
flag is a reason to look, not a verdict: none of them proves masking, and none raised proves
nothing but that these signs are absent.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from tradeoff.attacks.suites.ledger import CHECKS, Array, Ledger
from tradeoff.core.tables import LOW_IS_SUSPICIOUS

# What each flag suggests when it is raised; the reports translate a flag's sentence by its name.
SENTENCES = {
    "pgd_minus_autoattack": (
        "PGD leaves many images unfooled that AutoAttack fools: "
        "robust accuracy under PGD overstates this model."
    ),
    "square_alone": (
        "An attack without gradients fools images that no white-box attack fooled: "
        "the gradients may be misleading."
    ),
    "fosc": (
        "The loss could still rise where PGD stopped and failed: "
        "PGD has not converged, and more steps or another step size may succeed."
    ),
    "gradient_cosine": (
        "Gradients at successive steps of PGD disagree: the loss surface may be shattered."
    ),
    "zero_gradients": (
        "The loss has no usable gradient at many clean images: "
        "attacks on the cross-entropy cannot start there."
    ),
    "large_epsilon_accuracy": (
        "Some images withstand PGD although every image is within its reach: "
        "the attack fails for want of a usable gradient."
    ),
    "single_step_stronger": (
        "One step fools more images than many steps do: "
        "the loss surface misleads iterative attacks."
    ),
}


class Flag(NamedTuple):
    """One sign of masking.

    Attributes:
        number: what was measured; NaN if it could not be.
        threshold: beyond which the flag is raised (below it for those of LOW_IS_SUSPICIOUS).
        raised: None if the number is missing: neither an alarm nor an all-clear.
        suggests: what it suggests if raised, from SENTENCES.
    """

    name: str
    number: float
    threshold: float
    raised: bool | None
    suggests: str


def flags(numbers: Mapping[str, float], thresholds: Mapping[str, float]) -> list[Flag]:
    """Compare each number with its threshold; one flag per threshold, in the order of SENTENCES.

    Raises:
        ValueError: a number or a threshold is of no known flag, or a number has no threshold.
    """
    for name in [*numbers, *thresholds]:
        if name not in SENTENCES or name not in thresholds:
            raise ValueError(
                f"masking flag {name!r} is not known or has no threshold; "
                f"there are {', '.join(SENTENCES)}"
            )
    result = []
    for name, sentence in SENTENCES.items():
        if name not in thresholds:
            continue
        number, threshold = float(numbers.get(name, math.nan)), float(thresholds[name])
        beyond = number < threshold if name in LOW_IS_SUSPICIOUS else number > threshold
        raised = None if math.isnan(number) else beyond
        result.append(Flag(name, number, threshold, raised, sentence))
    return result


def attack_numbers(
    correct: Array, *, fgsm: Array, pgd: Array, square: Array, white_box: Array, autoattack: Array
) -> dict[str, float]:
    """The flags' numbers that come from attacks, as shares of all images, in [-1, 1].

    Args:
        correct: (n,) bool, which images are classified correctly as they are.
        fgsm, pgd, square, autoattack: (n,) bool, which of the same images each fooled. FGSM and
            PGD maximise the same loss; Square attacked at least the images that no other fooled.
        white_box: (n,) bool, which images any attack with gradients fooled.

    Returns:
        pgd_minus_autoattack: RA under PGD less RA under AutoAttack.
        square_alone: images that Square fooled and no white-box attack did.
        single_step_stronger: RA under PGD less RA under FGSM.

    Raises:
        ValueError: the arrays are not of one length, or it is 0.
    """
    attacks = {"fgsm": fgsm, "pgd": pgd, "square": square, "autoattack": autoattack}
    attacks["white_box"] = white_box
    if len(correct) == 0 or any(fooled.shape != correct.shape for fooled in attacks.values()):
        shapes = ", ".join(f"{name} {fooled.shape}" for name, fooled in attacks.items())
        raise ValueError(
            f"correct has shape {correct.shape}, but {shapes}; all must be (n,), n >= 1"
        )
    accuracy = {name: float((correct & ~fooled).mean()) for name, fooled in attacks.items()}
    return {
        "pgd_minus_autoattack": accuracy["pgd"] - accuracy["autoattack"],
        "square_alone": float((correct & square & ~white_box).mean()),
        "single_step_stronger": accuracy["pgd"] - accuracy["fgsm"],
    }


def gradient_checks(ledger: Ledger, version: str) -> dict[str, Array]:
    """What `gradients.gradient_checks` found of a model, by its names there."""
    v = ledger.version(version)
    return {name.removeprefix("check_"): ledger[name][v] for name in CHECKS}


def gradient_numbers(checks: Mapping[str, Array]) -> dict[str, float]:
    """The flags' numbers that come from `gradients.gradient_checks`, given as arrays (n,), those of
    truth values as 0 and 1.

    Returns:
        fosc: mean over all images in nats, with 0 for those that PGD fooled: only where it failed
            does it matter whether it had converged.
        gradient_cosine: mean over the images that have one; NaN if none has.
        zero_gradients: share of all images whose clean gradient is zero.
        large_epsilon_accuracy: share of all images that withstand PGD at the large epsilon.
    """
    cosines = checks["gradient_cosine"]
    return {
        "fosc": _mean(np.where(checks["fooled"] == 1, 0.0, checks["fosc"])),
        "gradient_cosine": _mean(cosines[~np.isnan(cosines)]),
        "zero_gradients": _mean(checks["zero_gradient"] == 1),
        "large_epsilon_accuracy": _mean(checks["fooled_at_large_epsilon"] != 1),
    }


def _mean(values: Array) -> float:
    return float(values.mean()) if len(values) else math.nan
