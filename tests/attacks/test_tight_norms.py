"""DDN, sigma-zero and SuperDeepFool: the contract, other people's attacks, closed forms."""

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

from tests.attacks.calls import ddn, deepfool, fmn, sigma_zero, superdeepfool


@pytest.mark.parametrize(
    ("attack", "norm"), [(ddn, "l2"), (superdeepfool, "l2"), (sigma_zero, "l0")]
)
def test_keeps_the_contract(attack, norm):
    assert_keeps_the_contract(attack, norm)


@pytest.mark.parametrize("network", [natural, robust])
@pytest.mark.parametrize(
    ("attack", "norm", "other"),
    [
        (ddn, "l2", foolbox.attacks.DDNAttack(steps=40)),
        (superdeepfool, "l2", foolbox.attacks.L2DeepFoolAttack()),
        (sigma_zero, "l0", foolbox.attacks.L0FMNAttack(steps=100)),
    ],
)
def test_as_strong_as_foolbox(attack, norm, other, network):
    model, (images, labels) = network(), test_digits(100)
    ours = attack(model, images, labels)
    assert_as_strong(model, images, labels, norm, ours, other)


@pytest.mark.parametrize("network", [natural, robust])
def test_each_is_nearer_than_what_it_improves(network):
    """SuperDeepFool than DeepFool by a tenth and more on a robust network, sigma-zero than FMN."""
    model, (images, labels) = network(), test_digits(100)
    means = {
        name: distances(result.images, images, norm).mean()
        for name, result, norm in (
            ("deepfool", deepfool(model, images, labels, norm="l2"), "l2"),
            ("superdeepfool", superdeepfool(model, images, labels), "l2"),
            ("fmn", fmn(model, images, labels, norm="l0", steps=100), "l0"),
            ("sigma_zero", sigma_zero(model, images, labels, steps=200), "l0"),
        )
    }
    assert means["superdeepfool"] < (0.9 if network is robust else 1.0) * means["deepfool"]
    assert means["sigma_zero"] < means["fmn"]


def test_near_the_optimum_on_linear_classes():
    model, images, labels = linear(classes=4)
    found = superdeepfool(model, images, labels)
    ratio = distances(found.images, images, "l2") / linear_distance(model, images, labels, 2)
    assert ratio.min() > 0.999 and ratio.mean() < 1.01


@pytest.mark.parametrize(
    ("attack", "wrong"),
    [(ddn, {"gamma": 1.0}), (ddn, {"steps": 0}), (sigma_zero, {"sigma": 0.0}),
     (sigma_zero, {"threshold": 2.0}), (superdeepfool, {"halvings": 0})],
)  # fmt: skip
def test_refuses(attack, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        attack(natural(), *test_digits(2), **wrong)
