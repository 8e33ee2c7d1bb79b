import foolbox
import pytest
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

from tests.attacks.calls import carlini_wagner
from tradeoff.attacks import carlini_wagner as module
from tradeoff.networks.losses import margin

QUICK = {"steps": 100, "binary_search_steps": 3, "initial_constant": 1.0}


def test_keeps_the_contract():
    quick = {"steps": 40, "binary_search_steps": 2, "initial_constant": 10.0}
    assert_keeps_the_contract(
        lambda *inputs: carlini_wagner(*inputs, **quick, learning_rate=0.05), "l2"
    )


@pytest.mark.parametrize("network", [natural, robust])
def test_as_strong_as_foolbox(network):
    model, (images, labels) = network(), test_digits(200)
    ours = carlini_wagner(model, images, labels, **QUICK, learning_rate=0.05)
    theirs = foolbox.attacks.L2CarliniWagnerAttack(
        steps=100, binary_search_steps=3, initial_const=1.0, stepsize=0.05
    )
    assert_as_strong(model, images, labels, "l2", ours, theirs)
    assert ours.queries.max() <= 1 + 100 * 3


def test_exact_on_two_linear_classes():
    model, images, labels = linear(classes=2)
    adversarial = carlini_wagner(
        model, images, labels, steps=300, binary_search_steps=7, learning_rate=0.003
    )
    exact = linear_distance(model, images, labels, 2)
    far = exact > 0.01  # nearer ones would need shorter steps
    assert far.sum() > 32
    ratio = (distances(adversarial.images, images, "l2") / exact)[far]
    assert ratio.min() > 0.999 and ratio.max() < 1.02


def test_confidence():
    model, (images, labels) = natural(), test_digits(20)
    sure = carlini_wagner(model, images, labels, **QUICK, learning_rate=0.05, confidence=3.0)
    right = model(images).argmax(1) == labels
    assert (margin(model(sure.images), labels)[right] <= -2.99).all()
    near = carlini_wagner(model, images, labels, **QUICK, learning_rate=0.05)
    assert (distances(sure.images, images, "l2") >= distances(near.images, images, "l2")).all()


def test_aborting_early_saves_passes_and_costs_little(monkeypatch):
    model, (images, labels) = robust(), test_digits(20)
    settings = {"steps": 300, "binary_search_steps": 2, "initial_constant": 1.0}
    early = carlini_wagner(model, images, labels, **settings, learning_rate=0.05)
    monkeypatch.setattr(module, "LEAST_PATIENCE", settings["steps"])
    late = carlini_wagner(model, images, labels, **settings, learning_rate=0.05)
    assert early.queries.sum() < 0.95 * late.queries.sum()
    mean_early, mean_late = (
        distances(adversarial.images, images, "l2").mean() for adversarial in (early, late)
    )
    torch.testing.assert_close(mean_early, mean_late, rtol=0.01, atol=0)


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"binary_search_steps": 0}, {"initial_constant": 0.0}, {"learning_rate": 0.0},
     {"confidence": -1.0}],
)  # fmt: skip
def test_refuses(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        carlini_wagner(natural(), *test_digits(2), **wrong)
