import foolbox
import pytest
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

from tests.attacks.calls import deepfool

NORMS = ["l2", "linf"]


@pytest.mark.parametrize("norm", NORMS)
def test_keeps_the_contract(norm):
    assert_keeps_the_contract(lambda *inputs: deepfool(*inputs, norm=norm), norm)


@pytest.mark.parametrize("network", [natural, robust])
@pytest.mark.parametrize(
    ("norm", "other"),
    [
        ("l2", foolbox.attacks.L2DeepFoolAttack),
        ("linf", foolbox.attacks.LinfDeepFoolAttack),
    ],
)
def test_as_strong_as_foolbox(network, norm, other):
    model, (images, labels) = network(), test_digits(500)
    ours = deepfool(model, images, labels, norm=norm)
    assert_as_strong(model, images, labels, norm, ours, other())


def test_few_candidates_are_nearly_as_good():
    model, (images, labels) = natural(), test_digits(100)
    every = deepfool(model, images, labels, norm="l2")
    few = deepfool(model, images, labels, norm="l2", candidates=3)
    one = deepfool(model, images, labels, norm="l2", candidates=1)
    means = [
        distances(adversarial.images, images, "l2").mean() for adversarial in (every, few, one)
    ]
    assert means[1] < 1.02 * means[0] < means[2]


@pytest.mark.parametrize(("norm", "dual"), [("l2", 2), ("linf", 1)])
def test_exact_on_a_linear_model(norm, dual):
    """One step, longer than the exact distance by the overshoot."""
    model, images, labels = linear(classes=4)
    exact = linear_distance(model, images, labels, dual)
    adversarial = deepfool(model, images, labels, norm=norm, overshoot=0.01)
    far = exact > 1e-3
    ratio = distances(adversarial.images, images, norm)[far] / exact[far]
    assert ratio.min() > 1.009 and ratio.max() < 1.011
    assert (adversarial.queries[far] == 3).all()


@pytest.mark.parametrize(
    "wrong",
    [{"norm": "l0"}, {"norm": "l2", "steps": 0}, {"norm": "l2", "candidates": 0},
     {"norm": "l2", "overshoot": -0.1}],
)  # fmt: skip
def test_refuses(wrong):
    with pytest.raises(ValueError, match=next(name for name in reversed(wrong))):
        deepfool(natural(), *test_digits(2), **wrong)
