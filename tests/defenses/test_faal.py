"""FAAL: the closed form against a general solver, its properties, and the phases of training."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.optimize import minimize
from torch.utils._python_dispatch import TorchDispatchMode

from tradeoff.defenses import faal

RADIUS = 0.5


def divergence(weights: np.ndarray) -> float:
    """KL(uniform || weights)."""
    return float(-math.log(len(weights)) - np.log(weights).mean())


def solved(gains: np.ndarray, radius: float) -> np.ndarray:
    """The weights found by sequential quadratic programming, in log weights."""
    classes = len(gains)
    scale = np.abs(gains).max()
    found = minimize(
        lambda u: -np.exp(u) @ gains / scale,
        np.full(classes, -math.log(classes)),
        jac=lambda u: -np.exp(u) * gains / scale,
        method="SLSQP",
        constraints=[
            {
                "type": "eq",
                "fun": lambda u: np.exp(u).sum() - 1,
                "jac": lambda u: np.exp(u),
            },
            {
                "type": "ineq",
                "fun": lambda u: radius + math.log(classes) + u.mean(),
                "jac": lambda u: np.full(classes, 1 / classes),
            },
        ],
        options={"maxiter": 500, "ftol": 1e-14},
    )
    assert found.success
    return np.exp(found.x)


@pytest.mark.parametrize("problem", range(12))
def test_closed_form_equals_a_general_solver(problem: int) -> None:
    random = np.random.default_rng(problem)
    classes = int(random.integers(2, 11))
    margins, counts = random.uniform(-1, 1, classes), random.integers(1, 20, classes)
    radius = random.uniform(0.05, 1.0)
    weights = faal.class_weights(torch.tensor(margins), torch.tensor(counts), radius).numpy()
    expected = solved(margins * counts, radius)
    np.testing.assert_allclose(weights, expected, atol=1e-4)
    gains = margins * counts
    assert weights @ gains >= expected @ gains - 1e-6 * np.abs(gains).max()


problems = st.tuples(
    arrays.arrays(np.float64, st.integers(2, 12), elements=st.floats(-1, 1, allow_subnormal=False)),
    st.floats(1e-3, 3.0),
    st.randoms(use_true_random=False),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(problems)
def test_weights_are_a_distribution_on_the_border_of_what_is_allowed(problem) -> None:  # type: ignore[no-untyped-def]
    margins, radius, random = problem
    counts = np.array([random.randint(0, 30) for _ in margins])
    gains = margins * counts
    weights = faal.class_weights(torch.tensor(margins), torch.tensor(counts), radius).numpy()
    assert weights.sum() == pytest.approx(1)
    assert (weights > 0).all()
    if np.ptp(gains) > 1e-6:
        assert divergence(weights) == pytest.approx(radius, rel=1e-4)
        order = np.argsort(gains, kind="stable")
        assert (np.diff(weights[order]) >= -1e-12).all()
    else:
        assert divergence(weights) <= radius


def test_equal_margins_give_equal_weights() -> None:
    weights = faal.class_weights(torch.full((5,), 0.3), torch.full((5,), 4.0), RADIUS)
    torch.testing.assert_close(weights, torch.full((5,), 0.2, dtype=torch.float64))


def test_a_larger_radius_favours_the_worst_class_more() -> None:
    margins, counts = torch.tensor([0.4, -0.2, -0.9]), torch.full((3,), 10.0)
    largest = [float(faal.class_weights(margins, counts, r)[0]) for r in (0.01, 0.1, 0.5, 2.0)]
    assert largest == sorted(largest)
    assert largest[0] < 0.5 < 0.9 < largest[-1]


def test_margins_and_counts_by_hand() -> None:
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.1, 0.5, 0.4]])
    margins, counts = faal.class_margins(probabilities, torch.tensor([0, 0, 1]))
    # Class 0: (0.2 - 0.7 + 0.6 - 0.3) / 2; class 1: 0.4 - 0.5; class 2 is absent.
    torch.testing.assert_close(margins, torch.tensor([-0.1, -0.1, -1.0]))
    assert counts.tolist() == [2, 1, 0]


def test_objective_weighs_each_image_by_its_class_without_gradient_through_the_weights() -> None:
    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(12, 4, generator=draws).requires_grad_()
    labels = torch.arange(12) % 4
    loss, weights, margins = faal.objective(logits, labels, RADIUS)
    each = F.cross_entropy(logits, labels, reduction="none")
    expected = (4 * weights.detach()[labels] * each).sum() / 12
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        torch.autograd.grad(loss, logits, retain_graph=True), torch.autograd.grad(expected, logits)
    )
    assert weights.argmax() == margins.argmax()
    assert not weights.requires_grad


def test_half_precision_logits_are_treated_as_the_numbers_they_are() -> None:
    draws = torch.Generator().manual_seed(0)
    logits, labels = 3 * torch.randn(24, 10, generator=draws).bfloat16(), torch.arange(24) % 10
    low, full = (faal.objective(given, labels, RADIUS) for given in (logits, logits.float()))
    for found, expected in zip(low, full, strict=True):
        assert found.dtype == torch.float32
        assert torch.equal(found, expected)
    assert low[1].sum().item() == pytest.approx(1, abs=1e-6)


class NoWaiting(TorchDispatchMode):
    """Refuses what a GPU has to be waited for: the host asks it for a number or a size."""

    def __torch_dispatch__(
        self, operator: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        aten = torch.ops.aten
        waits = {aten._local_scalar_dense, aten.bincount, aten.nonzero, aten.unique_dim}
        assert operator.overloadpacket not in waits, operator
        return operator(*args, **(kwargs or {}))


def test_nothing_waits_for_the_device() -> None:
    logits, labels = torch.randn(12, 4).requires_grad_(), torch.arange(12) % 4
    with NoWaiting():
        faal.objective(logits, labels, RADIUS)[0].backward()
