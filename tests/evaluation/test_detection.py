"""What a classifier that refuses is worth: published numbers."""

import numpy as np
import pytest
import torch

from tests import golden
from tradeoff.attacks.suites.asking import rejection_threshold
from tradeoff.evaluation.detection import share, with_rejection
from tradeoff.evaluation.rejection import area_under_curve


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
