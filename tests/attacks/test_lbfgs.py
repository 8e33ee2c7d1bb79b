import foolbox
import numpy as np
import pytest
import scipy.optimize
import torch
from small_networks import (
    assert_as_strong,
    assert_keeps_the_contract,
    distances,
    linear,
    linear_distance,
    natural,
    robust,
    test_digits,
)

from tests.attacks.calls import lbfgs
from tradeoff.attacks.lbfgs import minimise_in_box


def test_keeps_the_contract():
    assert_keeps_the_contract(
        lambda *inputs: lbfgs(*inputs, targets=2, binary_search_steps=4, steps=15), "l2"
    )


@pytest.mark.parametrize("network", [natural, robust])
def test_as_strong_as_foolbox(network):
    """foolbox 3 has no L-BFGS; DDN is its strongest l2 attack."""
    model, (images, labels) = network(), test_digits(40)
    ours = lbfgs(model, images, labels, binary_search_steps=8)
    assert_as_strong(model, images, labels, "l2", ours, foolbox.attacks.DDNAttack(steps=100))


def test_exact_on_two_linear_classes():
    model, images, labels = linear(classes=2)
    adversarial = lbfgs(model, images, labels, initial_constant=100.0)
    exact = linear_distance(model, images, labels, 2)
    far = exact > 0.01  # nearer ones would need a larger constant than the search reaches
    assert far.sum() > 32
    ratio = (distances(adversarial.images, images, "l2") / exact)[far]
    assert ratio.min() > 0.999 and ratio.max() < 1.02


class Quadratics:
    """Convex quadratics, one per row, whose minimum in [0, 1] is partly at the bounds."""

    def __init__(self, count, dimension):
        generator = torch.Generator().manual_seed(4)
        roots = torch.randn(count, dimension, dimension, generator=generator)
        self.curvature = roots @ roots.mT / dimension + 0.1 * torch.eye(dimension)
        self.slope = torch.randn(count, dimension, generator=generator)
        self.last = torch.full((count, dimension), torch.nan)

    def evaluate(self, places, points):
        gradient = (self.curvature[places] @ points[:, :, None]).squeeze(2) + self.slope[places]
        value = ((gradient + self.slope[places]) * points).sum(1) / 2
        self.last[places] = points
        return value, gradient, torch.zeros_like(places, dtype=torch.bool)


def test_solver_agrees_with_scipy():
    problem = Quadratics(count=12, dimension=20)
    start = torch.full((12, 20), 0.5)
    minimise_in_box(problem, start, steps=60)
    reached = problem.evaluate(torch.arange(12), problem.last.clone())[0]
    at_bounds = 0
    for i in range(12):
        curvature, slope = problem.curvature[i].double().numpy(), problem.slope[i].double().numpy()
        other = scipy.optimize.minimize(
            lambda x, a=curvature, b=slope: (x @ a @ x / 2 + b @ x, a @ x + b),
            np.full(20, 0.5), jac=True, method="L-BFGS-B", bounds=[(0, 1)] * 20,
        )  # fmt: skip
        at_bounds += int(((other.x == 0) | (other.x == 1)).sum())
        assert reached[i] <= other.fun + 1e-4 * abs(other.fun)
    assert at_bounds > 24  # the constraints did matter


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"binary_search_steps": 0}, {"targets": 0},
     {"initial_constant": 0.0}],
)  # fmt: skip
def test_refuses(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        lbfgs(natural(), *test_digits(2), **wrong)
