"""Masking flags: thresholds, numbers worked out by hand, and networks known to mask."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.attacks.calls import fgsm, pgd, square
from tests.attacks.trained import LINF, trained
from tradeoff.attacks.autoattack import Knobs, autoattack
from tradeoff.attacks.outcome import Adversarial, is_fooled
from tradeoff.attacks.suites.gradients import gradient_checks
from tradeoff.evaluation.masking import SENTENCES, attack_numbers, flags, gradient_numbers

THRESHOLDS = {
    "pgd_minus_autoattack": 0.1,
    "square_alone": 0.02,
    "fosc": 0.2,
    "gradient_cosine": 0.3,
    "zero_gradients": 0.01,
    "large_epsilon_accuracy": 0.01,
    "single_step_stronger": 0.01,
}


# --- pure parts -------------------------------------------------------------------------------


def test_one_flag_for_each_threshold_with_its_sentence():
    found = flags(dict.fromkeys(SENTENCES, 0.0), THRESHOLDS)
    assert [flag.name for flag in found] == list(SENTENCES) == list(THRESHOLDS)
    assert [flag.suggests for flag in found] == list(SENTENCES.values())
    assert all(flag.threshold == THRESHOLDS[flag.name] for flag in found)
    # All numbers are 0: gradients that disagree are the one bad sign.
    assert [flag.name for flag in found if flag.raised] == ["gradient_cosine"]


@pytest.mark.parametrize("name", SENTENCES)
def test_threshold_itself_raises_nothing(name):
    assert flags({name: THRESHOLDS[name]}, {name: THRESHOLDS[name]})[0].raised is False


def test_what_was_not_measured_is_neither_alarm_nor_all_clear():
    missing, unknown = flags({"square_alone": math.nan}, {"fosc": 1, "square_alone": 1})
    assert missing.raised is None and unknown.raised is None
    assert math.isnan(missing.number)


def test_unknown_names():
    with pytest.raises(ValueError, match="'foscc' is not known"):
        flags({}, {"foscc": 1.0})
    with pytest.raises(ValueError, match="'fosc' is not known or has no threshold"):
        flags({"fosc": 1.0}, {"square_alone": 1.0})


def test_attack_numbers_by_hand():
    def of(*digits: int) -> np.ndarray:
        return np.array(digits, dtype=bool)

    numbers = attack_numbers(
        of(1, 1, 1, 1, 0),
        fgsm=of(1, 1, 0, 0, 1),
        pgd=of(1, 0, 0, 0, 1),
        square=of(0, 0, 1, 0, 1),
        white_box=of(1, 1, 0, 0, 0),
        autoattack=of(1, 1, 1, 0, 1),
    )
    assert numbers == pytest.approx(
        {"pgd_minus_autoattack": 0.4, "square_alone": 0.2, "single_step_stronger": 0.2}
    )


def test_attack_numbers_of_other_images():
    four, five = np.ones(4, dtype=bool), np.ones(5, dtype=bool)
    arrays = dict.fromkeys(("fgsm", "pgd", "white_box", "autoattack"), four)
    with pytest.raises(ValueError, match="all must be"):
        attack_numbers(four, square=five, **arrays)
    with pytest.raises(ValueError, match="all must be"):
        attack_numbers(four[:0], square=four[:0], **dict.fromkeys(arrays, four[:0]))


def test_gradient_numbers_by_hand():
    checks = {
        "fooled": np.array([True, False, False, False]),
        "fosc": np.array([9.0, 0.1, 0.3, 0.0]),
        "gradient_cosine": np.array([0.8, 0.4, math.nan, math.nan]),
        "zero_gradient": np.array([False, False, False, True]),
        "fooled_at_large_epsilon": np.array([True, True, False, False]),
    }
    assert gradient_numbers(checks) == pytest.approx(
        {
            "fosc": 0.1,
            "gradient_cosine": 0.6,
            "zero_gradients": 0.25,
            "large_epsilon_accuracy": 0.5,
        }
    )
    checks["gradient_cosine"] = np.full(4, math.nan)
    assert math.isnan(gradient_numbers(checks)["gradient_cosine"])


# --- networks ---------------------------------------------------------------------------------


class Masked(nn.Module):
    """The network behind a change of its images, or of its logits."""

    def __init__(self, before=lambda images: images, scale: float = 1) -> None:
        super().__init__()
        self.model, self.before, self.scale = trained().model, before, scale

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * self.model(self.before(images))


def quantised(images: Tensor) -> Tensor:
    """Five grey levels."""
    return torch.round(4 * images) / 4


def rippled(images: Tensor) -> Tensor:
    """Hardly another image, but one whose gradient changes sign every 0.016."""
    return images + 0.05 * torch.sin(200 * images)


MODELS = {
    "sound": lambda: Masked(),
    "scaled": lambda: Masked(scale=1000),
    "quantised": lambda: Masked(quantised),
    "rippled": lambda: Masked(rippled),
}


@cache
def numbers(name: str) -> dict[str, float]:
    """Everything that is measured of a model, on 150 digits and with small budgets."""
    model = MODELS[name]().eval()
    _, images, labels, keys = trained().first(150)
    of_pgd = {"steps": 20, "relative_step_size": 0.1}

    def wrong(adversarial: Adversarial) -> np.ndarray:
        return is_fooled(model(adversarial.images), labels).numpy()

    single = wrong(fgsm(model, images, labels, LINF))
    many = wrong(pgd(model, images, labels, LINF, keys=keys, **of_pgd))
    margin = wrong(pgd(model, images, labels, LINF, keys=keys, loss="margin", **of_pgd))
    budget = Knobs(apgd_steps=20, fab_steps=5, targets=3, square_queries=200)
    of_attacks = attack_numbers(
        ~is_fooled(model(images), labels).numpy(),
        fgsm=single,
        pgd=many,
        square=wrong(square(model, images, labels, LINF, keys=keys, queries=300)),
        white_box=single | many | margin,
        autoattack=wrong(autoattack(model, images, labels, budget, LINF, keys)),
    )
    checks = gradient_checks(model, images, labels, LINF, keys=keys, **of_pgd)
    return of_attacks | gradient_numbers(checks)


def raised(name: str) -> set[str]:
    return {flag.name for flag in flags(numbers(name), THRESHOLDS) if flag.raised}


def test_sound_network_raises_none():
    assert raised("sound") == set()
    assert not any(math.isnan(number) for number in numbers("sound").values())


def test_scaled_logits():
    """The cross-entropy saturates: gradients vanish; AutoAttack's DLR loss does not care."""
    assert raised("scaled") >= {
        "zero_gradients",
        "pgd_minus_autoattack",
        "large_epsilon_accuracy",
    }


def test_quantised_input():
    """No gradient anywhere: only Square gets through."""
    assert raised("quantised") >= {
        "zero_gradients",
        "square_alone",
        "pgd_minus_autoattack",
        "large_epsilon_accuracy",
    }


def test_rippled_input():
    """Gradients are large and point anywhere: PGD does worse than a single step."""
    assert raised("rippled") >= {
        "gradient_cosine",
        "fosc",
        "pgd_minus_autoattack",
        "single_step_stronger",
        "large_epsilon_accuracy",
    }
    assert "zero_gradients" not in raised("rippled")
