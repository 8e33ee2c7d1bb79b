"""Expected calibration error: by hand, in the limits, and of a simulation that is calibrated."""

import math

import numpy as np
import pytest

from tradeoff.attacks.suites.ledger import Ledger
from tradeoff.evaluation.calibration import clean_calibration_error, expected_calibration_error


def test_by_hand():
    confidence = np.array([0.55, 0.65, 0.95, 0.85])
    right = np.array([True, False, True, True])
    # Two bins: (0, 0.5] is empty; (0.5, 1] has confidence 0.75 and accuracy 0.75.
    assert expected_calibration_error(confidence, right, bins=2) == pytest.approx(0)
    # Five: (0.4, 0.6], (0.6, 0.8], (0.8, 1] with gaps 0.45, 0.65, 0.1.
    expected = 0.25 * 0.45 + 0.25 * 0.65 + 0.5 * 0.1
    assert expected_calibration_error(confidence, right, bins=5) == pytest.approx(expected)


def test_a_bin_holds_its_upper_end():
    confidence, right = np.array([0.0, 0.5, 0.75, 1.0]), np.array([0, 1, 1, 1])
    # The gaps of four bins of one image each: 0, 0.5, 0.25, 0.
    assert expected_calibration_error(confidence, right, bins=4) == pytest.approx(0.75 / 4)
    assert expected_calibration_error(np.array([0.5, 0.51]), np.array([1, 0]), bins=2) > 0.5


def test_sure_and_wrong_is_the_worst():
    assert expected_calibration_error(np.ones(5), np.zeros(5, dtype=bool)) == 1
    assert expected_calibration_error(np.ones(5), np.ones(5, dtype=bool)) == 0


def test_calibrated_and_overconfident_simulations():
    draws = np.random.default_rng(0)
    confidence = draws.uniform(0.1, 1, 100_000)
    right = draws.random(100_000) < confidence
    calibrated = expected_calibration_error(confidence, right)
    assert calibrated < 0.01
    # sqrt(2 bins p (1 - p) / (pi n)), as the docstring has it, with the mean of p (1 - p).
    variance = (confidence * (1 - confidence)).mean()
    assert calibrated < 2 * math.sqrt(2 * 15 * variance / (math.pi * 100_000))
    overconfident = draws.random(100_000) < confidence - 0.1
    assert expected_calibration_error(confidence, overconfident) == pytest.approx(0.1, abs=0.01)


def test_of_a_ledger():
    columns = {
        "labels": np.array([0, 1]),
        "clean_prediction": np.array([[0, 0], [0, 1]]),
        "clean_confidence": np.array([[0.9, 0.9], [0.9, 0.9]], dtype=np.float32),
    }
    ledger = Ledger(("best", "last"), (), columns, {})
    assert clean_calibration_error(ledger, "best") == pytest.approx(0.4)
    assert clean_calibration_error(ledger, "last") == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("confidence", "right", "bins", "message"),
    [
        ([], [], 15, "n >= 1"),
        ([0.5, 0.5], [True], 15, "two arrays"),
        ([1.1], [True], 15, "outside"),
        ([math.nan], [True], 15, "NaN"),
        ([0.5], [True], 0, "bins"),
    ],
)
def test_errors(confidence, right, bins, message):
    with pytest.raises(ValueError, match=message):
        expected_calibration_error(np.array(confidence), np.array(right), bins)
