"""Rates of a classifier that rejects by its confidence, against golden numbers and by hand."""

import numpy as np
import pytest

from tests import golden
from tradeoff.evaluation import detection

HELD_OUT, ATTACKED = 150, 200
LABELS = golden.tensor("ccat/eval/labels").numpy()
CLEAN = golden.tensor("ccat/eval/clean_probabilities").numpy()
ATTEMPTS = golden.tensor("ccat/eval/adv_probabilities").numpy()
RIVAL = golden.tensor("ccat/eval/attempt_objective").numpy()
CONFIDENCE, WRONG = CLEAN.max(1), CLEAN.argmax(1) != LABELS


def attacked(kind: str) -> tuple[np.ndarray, ...]:
    """Of the attacked images: clean wrong and confidence, and those of the attempts that count."""
    if kind == "worst":
        rows = np.arange(ATTACKED)
        chosen = ATTEMPTS[RIVAL.argmax(0), rows]
    else:
        chosen, rows = ATTEMPTS.reshape(-1, 10), np.tile(np.arange(ATTACKED), len(ATTEMPTS))
    return WRONG[rows], CONFIDENCE[rows], chosen.argmax(1) != LABELS[rows], chosen.max(1)


def test_an_attempts_objective_is_the_likeliest_wrong_class() -> None:
    wrong_classes = np.arange(10) != LABELS[:ATTACKED, None]
    rival = np.where(wrong_classes, ATTEMPTS, 0).max(2)
    np.testing.assert_allclose(rival, RIVAL, rtol=1e-6)


@pytest.mark.parametrize("kind", ["worst", "mean"])
@pytest.mark.parametrize("rate", [90, 95, 98, 99])
def test_rates_beyond_the_threshold(kind: str, rate: int) -> None:
    name = f"ccat/eval/{kind}/tpr{rate}"
    held_out = slice(-HELD_OUT, None)
    correct = ~WRONG[held_out]
    least = detection.least_confidence(CONFIDENCE[held_out], correct, rate / 100)
    assert least == pytest.approx(golden.number(f"{name}/threshold"), rel=1e-6)
    kept = detection.share_among(CONFIDENCE[held_out] >= least, correct)
    assert kept == pytest.approx(golden.number(f"{name}/validation_tpr"))
    first = slice(None, -HELD_OUT)
    error = detection.share_among(WRONG[first], CONFIDENCE[first] >= least)
    assert error == pytest.approx(golden.number(f"{name}/test_error"))
    wrong, confidence, fooled, sure = attacked(kind)
    error = detection.robust_error(wrong, confidence, fooled, sure, least)
    assert error == pytest.approx(golden.number(f"{name}/robust_error"))
    accepted = (fooled & ~wrong & (sure >= least)).mean()
    assert accepted == pytest.approx(golden.number(f"{name}/false_positive_rate"))


@pytest.mark.parametrize("kind", ["worst", "mean"])
def test_rates_without_rejection(kind: str) -> None:
    name = f"ccat/eval/{kind}"
    wrong, confidence, fooled, sure = attacked(kind)
    error = detection.robust_error(wrong, confidence, fooled, sure, 0.0)
    assert error == pytest.approx(golden.number(f"{name}/robust_error"))
    assert WRONG[:-HELD_OUT].mean() == pytest.approx(golden.number(f"{name}/test_error"))
    area = detection.area_under_curve(confidence, sure[fooled & ~wrong])
    assert area == pytest.approx(golden.number(f"{name}/roc_auc"))


def test_the_threshold_keeps_at_least_the_share_of_the_correct_ones() -> None:
    confidence = np.arange(1, 11) / 10
    correct = np.ones(10, bool)
    assert detection.least_confidence(confidence, correct, 0.9) == 0.2
    assert detection.least_confidence(confidence, correct, 0.99) == 0.1
    assert detection.least_confidence(confidence, correct, 1) == 0.1
    correct[:5] = False
    assert detection.least_confidence(confidence, correct, 0.9) == 0.6


@pytest.mark.parametrize(
    ("kept", "correct", "says"), [(0, 1, "above 0"), (1.5, 1, "at most 1"), (0.9, 0, "none of")]
)
def test_a_threshold_that_there_is_not_is_an_error(kept: float, correct: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        detection.least_confidence(np.ones(3), np.full(3, bool(correct)), kept)


def test_where_nothing_is_kept_nothing_is_wrong() -> None:
    some = np.array([True, False])
    low = np.array([0.1, 0.2])
    assert detection.robust_error(some, low, some, low, 0.5) == 0
    assert detection.area_under_curve(np.array([0.5, 0.5]), np.array([0.5])) == 0.5
