"""Average perturbation norms of made-up ledgers, worked out by hand."""

import math

import numpy as np
import pytest

from tradeoff.attacks.suites.ledger import Ledger
from tradeoff.evaluation.norms import (
    average_norms,
    minimum_norms,
    norm_metrics,
    robust_accuracy,
)


def ledger(fooled: list[list[bool]], l2: list[list[float]], right: list[bool]) -> Ledger:
    """One version; rows are attacks, columns images; l0 is 10 l2 and linf l2 / 10."""
    norms = np.array(l2, dtype=np.float32)[None]
    labels = np.arange(len(right)) % 3
    columns = {
        "labels": labels,
        "clean_prediction": np.where(right, labels, labels + 1)[None],
        "attempted": np.ones_like(norms, dtype=bool),
        "fooled": np.array(fooled)[None],
        "l0": 10 * norms,
        "l2": norms,
        "linf": norms / 10,
    }
    return Ledger(("best",), tuple(f"attack {i}" for i in range(len(l2))), columns, {})


TWO_ATTACKS = ledger(
    # fooled by both, by the second, by the first, by none; misclassified anyway
    fooled=[[1, 0, 1, 0, 1], [1, 1, 0, 0, 1]],
    l2=[[3.0, 0.5, 2.0, 0.0, 0.7], [1.0, 4.0, 0.5, 0.0, 0.0]],
    right=[True, True, True, True, False],
)


def test_least_norm_over_the_attacks_that_fooled():
    np.testing.assert_allclose(minimum_norms(TWO_ATTACKS, "best", "l2"), [1, 4, 2, math.inf, 0])


@pytest.mark.parametrize(("norm", "factor"), [("l0", 10), ("l2", 1), ("linf", 0.1)])
def test_averages(norm, factor):
    found = norm_metrics(TWO_ATTACKS, "best")[norm]
    assert found["APN"] == pytest.approx(factor * 7 / 4)
    assert found["unfooled"] == pytest.approx(1 / 5)
    assert found["APN_fooled"] == pytest.approx(factor * 7 / 3)
    assert found["APN_fooled_median"] == pytest.approx(factor * 2)


def test_each_norm_takes_its_own_best_attack():
    both = ledger([[True], [True]], [[1.0], [2.0]], [True])
    both.columns["l0"] = np.array([[[30.0], [5.0]]])
    assert minimum_norms(both, "best", "l2") == [1]
    assert minimum_norms(both, "best", "l0") == [5]


def test_of_images_that_are_all_fooled_none_is_left_out():
    found = average_norms(np.array([0.0, 1.0, 2.0]))
    assert found["APN"] == 1 and found["unfooled"] == 0


def test_nothing_to_average_is_not_a_number():
    robust = average_norms(np.full(3, math.inf))
    assert math.isnan(robust["APN"]) and robust["unfooled"] == 1
    wrong = average_norms(np.zeros(3))
    assert wrong["APN"] == 0 and math.isnan(wrong["APN_fooled"])
    assert math.isnan(wrong["APN_fooled_median"])


def test_curve():
    minimum = minimum_norms(TWO_ATTACKS, "best", "l2")
    epsilons = np.array([0.0, 0.99, 1.0, 2.5, 4.0, 100.0, math.inf])
    np.testing.assert_allclose(
        robust_accuracy(minimum, epsilons), [0.8, 0.8, 0.6, 0.4, 0.2, 0.2, 0.0]
    )


def test_curve_is_its_definition():
    draws = np.random.default_rng(0)
    minimum = np.where(draws.random(200) < 0.1, math.inf, draws.random(200))
    minimum[:20] = 0
    epsilons = np.append(minimum[:50], draws.random(50))
    expected = [(minimum > epsilon).mean() for epsilon in epsilons]
    np.testing.assert_allclose(robust_accuracy(minimum, epsilons), expected, atol=1e-12)


def test_an_image_that_was_not_attacked_has_no_norm():
    partly = ledger([[True, True]], [[1.0, 1.0]], [True, False])
    partly.columns["attempted"] = np.array([[[True, False]]])
    np.testing.assert_allclose(minimum_norms(partly, "best", "l2"), [1, 0])
    partly.columns["attempted"] = np.array([[[False, True]]])
    with pytest.raises(ValueError, match="1 of 2 images were not attacked"):
        minimum_norms(partly, "best", "l2")


@pytest.mark.parametrize("minimum", [[], [1.0, math.nan], [-1.0]])
def test_what_is_no_norm_is_refused(minimum):
    with pytest.raises(ValueError, match="norms"):
        average_norms(np.array(minimum))
    with pytest.raises(ValueError, match="norms"):
        robust_accuracy(np.array(minimum), np.array([0.1]))


@pytest.mark.parametrize("epsilon", [-0.1, math.nan])
def test_what_is_no_epsilon_is_refused(epsilon):
    with pytest.raises(ValueError, match="epsilon"):
        robust_accuracy(np.array([1.0]), np.array([epsilon]))
