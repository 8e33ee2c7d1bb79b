"""The thesis's metrics on ledgers of five images, by hand."""

import numpy as np
import pytest

from tests.evaluation.ledgers import LABELS, ledger
from tradeoff.evaluation.metrics import (
    accuracies,
    by_class,
    correct_images,
    robust_images,
    suite_metrics,
    under_both_suites,
    worst_class,
)


def bits(values: object) -> list[int]:
    return [int(value) for value in values]  # type: ignore[attr-defined]


def test_natural_and_robust_images() -> None:
    subject = ledger()
    assert bits(correct_images(subject, "best")) == [1, 1, 1, 0, 1]
    assert bits(correct_images(subject, "last")) == [1, 0, 1, 1, 0]
    assert bits(robust_images(subject, "best", "pgd")) == [0, 1, 1, 0, 1]
    assert bits(robust_images(subject, "best", "fgsm")) == [1, 1, 0, 0, 1]
    assert bits(robust_images(subject, "best")) == [0, 1, 0, 0, 1]
    assert bits(robust_images(subject, "last")) == [0, 0, 1, 0, 0]


def test_an_image_that_is_wrong_already_is_not_robust_even_if_no_attack_fooled_it() -> None:
    subject = ledger({"best": {"pgd": [0] * 5}}, clean={"best": [0, 1, 1, 0, 2]})
    assert bits(robust_images(subject, "best")) == [1, 0, 1, 0, 1]
    assert bits(robust_images(subject, "best", "pgd")) == [1, 0, 1, 0, 1]


def test_parts_of_an_ensemble_count_what_is_left_after_them() -> None:
    """What a part did not adversarial, one before it had fooled; it stays fooled."""
    subject = ledger(
        {"best": {"apgd-ce": [1, 0, 0, 0, 0], "square": [0, 1, 0, 0, 0]}},
        clean={"best": [0, 0, 1, 0, 2]},
        attempted={"apgd-ce": [1, 1, 1, 0, 1], "square": [0, 1, 1, 0, 1]},
    )
    assert bits(robust_images(subject, "best", "apgd-ce")) == [0, 1, 1, 0, 1]
    assert bits(robust_images(subject, "best", "square")) == [0, 0, 1, 0, 1]
    assert bits(robust_images(subject, "best")) == [0, 0, 1, 0, 1]


def test_an_attack_on_the_first_images_is_judged_by_these() -> None:
    subject = ledger(
        {"best": {"apgd_t": [1, 0, 0, 0, 0], "square": [0, 1, 0, 0, 0]}},
        clean={"best": [0, 0, 1, 0, 2]},
        attempted={"square": [1, 1, 1, 0, 0]},
    )
    subject.about["tried"] = {"square": 3}
    assert bits(robust_images(subject, "best", "square")) == [1, 0, 1]
    assert bits(robust_images(subject, "best", "apgd_t")) == [0, 1, 1, 0, 1]
    assert bits(robust_images(subject, "best")) == [0, 0, 1, 0, 1]


def test_metrics_of_a_suite() -> None:
    metrics = suite_metrics(ledger())
    assert metrics == pytest.approx(
        {"NA": 0.8, "RA": 0.4, "RD": 0.4, "ASR": 0.6, "ASR_correct": 0.5, "RA_last": 0.2}
    )
    assert "RA_last" not in suite_metrics(ledger({"best": {"pgd": [1, 0, 0, 1, 0]}}))


def test_a_model_that_is_never_right_has_no_successes_over_the_right_ones() -> None:
    nothing = np.zeros(4, dtype=bool)
    assert accuracies(nothing, nothing) == {
        "NA": 0.0,
        "RA": 0.0,
        "RD": 0.0,
        "ASR": 1.0,
        "ASR_correct": 0.0,
    }


def test_accuracy_by_class_and_the_worst_one() -> None:
    labels, held = np.array(LABELS), np.array([0, 1, 0, 0, 1], dtype=bool)
    np.testing.assert_allclose(by_class(held, labels, 4), [0.5, 0.0, 1.0, np.nan])
    assert worst_class(held, labels, 4) == 0.0
    # A class without images is not the worst one.
    assert worst_class(np.ones(5, dtype=bool), labels, 4) == 1.0


def test_the_headline_needs_every_attack_of_both_suites_to_fail() -> None:
    auto = ledger({"best": {"square": [0, 0, 0, 1, 1]}}, suite="autoattack")
    right, held = under_both_suites(ledger(), auto)
    assert bits(right) == [1, 1, 1, 0, 1]
    assert bits(held) == [0, 1, 0, 0, 0]
    # Of suites of different size the common images count.
    right, held = under_both_suites(ledger(), auto.first(3))
    assert bits(right) == [1, 1, 1] and bits(held) == [0, 1, 0]
    assert len(under_both_suites(ledger().first(2), auto)[0]) == 2
