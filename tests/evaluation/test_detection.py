"""What a classifier that refuses is worth: published numbers, golden ones, and by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests import golden
from tests.evaluation.ledgers import ledger
from tradeoff.attacks.suites.asking import rejection_threshold
from tradeoff.attacks.suites.ledger import Ledger
from tradeoff.core.study import Study
from tradeoff.evaluation import detection
from tradeoff.evaluation.detection import (
    area_under_curve,
    asking_table,
    detection_table,
    robust_errors,
    share,
    with_rejection,
)
from tradeoff.evaluation.summary import CellLedgers


def array(key: str) -> np.ndarray:
    return golden.tensor(f"detection/{key}").numpy()


def test_thresholds_are_the_published_ones() -> None:
    scores = golden.tensor("squeezing/threshold/legitimate")
    names = ("size", "fpr", "value")
    table = (golden.tensor(f"squeezing/threshold/{name}").tolist() for name in names)
    for size, false_alarms, expected in zip(*table, strict=True):
        assert rejection_threshold(scores[: int(size)], false_alarms) == expected


def test_detection_rates_and_area_are_the_published_ones() -> None:
    threshold = golden.number("detection/threshold")
    clean, attacked = array("clean"), array("adversarial")
    assert share(clean > threshold) == golden.number("detection/false_positive_rate")
    assert share(attacked > threshold) == golden.number("detection/detection_rate")
    area = area_under_curve(attacked, clean)
    assert area == pytest.approx(golden.number("detection/auc"), abs=1e-12)


def test_accuracies_with_rejection_are_the_published_ones() -> None:
    names = ("right_clean", "right_adversarial", "flagged_clean", "flagged_adversarial")
    found = with_rejection(*(array(name) for name in names))
    for name, published in {
        "NA_rejecting": "natural_accuracy",
        "coverage": "coverage",
        "selective_accuracy": "selective_accuracy",
        "RA_rejecting": "robust_accuracy",
        "evaded": "evasion_rate",
    }.items():
        expected = golden.number(f"detection/{published}")
        assert found[name] == pytest.approx(expected, abs=1e-12)


def test_at_most_the_asked_share_of_legitimate_images_is_rejected() -> None:
    scores = torch.rand(150, generator=torch.Generator().manual_seed(0))
    rejected = (scores > rejection_threshold(scores)).sum()
    assert rejected == 7  # 5 % of 150 are 7.5


def test_robust_errors_by_hand() -> None:
    """Scores are what is suspicious: an image is accepted up to the threshold."""
    right = np.array([True, True, True, False, True])
    clean = np.array([0.1, 0.2, 0.3, 0.2, 0.9])
    fooled = np.array([True, True, False, True, True])
    attacked = np.array([0.4, 0.8, 0.1, 0.7, 0.9])
    found = robust_errors(right, clean, fooled, attacked, 0.5)
    assert found["RErr_all"] == 4 / 5
    assert found["RErr"] == 2 / 4  # the first and the fourth, of all but the last
    assert found["RErr_99"] == 4 / 5  # of four right ones all are kept: the threshold is 0.9
    nobody = robust_errors(~right & False, clean, fooled, attacked, 0.5)
    assert nobody["RErr_99"] == nobody["RErr_all"] == 1


def test_the_least_suspicious_attempt_that_fools_counts() -> None:
    """Of the first image the second attack; of the second, which none fools, its least score; what
    was not attempted has none."""
    cell = CellLedgers(Study.load().cells("digits")[0], *(rejecting() for _ in range(3)))
    rows = detection_table([cell]).drop_duplicates("attack").set_index("attack")
    assert rows.loc["bounded", "RErr_all"] == 3 / 5
    assert rows.loc["bounded", "RErr"] == 1 / 4  # 0.3 fools; 0.6 is rejected, clean as attacked
    assert rows.loc["fgsm", "RErr"] == 1 / 4
    assert rows.loc["pgd", "RErr"] == 0


def test_a_prediction_takes_a_pass_though_the_score_asks_another_network() -> None:
    def asked(passes: int) -> Ledger:
        about = {"forward_passes": passes, "calibration_images": 150}
        return replace(rejecting(), about=rejecting().about | about)

    place = Study.load().cells("digits")[0]
    cells = [CellLedgers(place, *[asked(passes)] * 3) for passes in (0, 1, 33)]
    plain = CellLedgers(place, *[rejecting()] * 3)
    table = asking_table([*cells, plain])
    assert table["forward_passes"].tolist() == [1, 1, 33]
    assert set(table["calibration_images"]) == {150}


def rejecting() -> Ledger:
    """Three classes, five images, two attacks."""
    fooled = {"pgd": [1, 0, 0, 1, 0], "fgsm": [1, 0, 1, 1, 0]}
    found = ledger({"best": fooled}, attempted={"pgd": [1, 1, 1, 1, 0]})
    scores = {
        "clean_rejection": [[0.1, 0.1, 0.1, 0.6, 0.1]],
        "rejection": [[[0.9, 0.2, 0.1, 0.6, np.nan], [0.3, 0.4, 0.7, 0.6, 0.1]]],
    }
    columns = {name: np.array(values, np.float32) for name, values in scores.items()}
    about = found.about | {"rejection_thresholds": {"best": 0.5}}
    return replace(found, columns=found.columns | columns, about=about)


# --- by confidence, with the code of Stutz et al. ----------------------------------------------

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
