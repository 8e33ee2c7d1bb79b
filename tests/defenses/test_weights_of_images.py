"""Weights of images: the controls of D-TRADES and its competitors, from their closed forms."""

import math
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests import tiny
from tradeoff.core.plugins import knobs_class
from tradeoff.core.schema import Section
from tradeoff.defenses import arow, dtrades, ewat, mail, trades, vir, weat
from tradeoff.networks.losses import entropy, kl_divergence

WEIGHT = torch.tensor([1.0, 2.0, 4.0, 9.0])
LABELS = torch.tensor([0, 1, 0, 2])


@pytest.mark.parametrize(
    ("whose", "expected"),
    [
        ("own", [1.0, 2.0, 4.0, 9.0]),
        ("shuffled", [9.0, 1.0, 2.0, 4.0]),
        ("batch_mean", [4.0, 4.0, 4.0, 4.0]),
        ("class_mean", [2.5, 2.0, 2.5, 9.0]),
    ],
)
def test_a_control_gives_other_weights_of_the_same_mean(whose: str, expected: list[float]) -> None:
    given = dtrades.given(WEIGHT, LABELS, whose)
    assert given.tolist() == expected
    assert given.mean() == WEIGHT.mean()


def loss(defense: ModuleType, **knobs: object) -> tuple[float, Tensor]:
    """The training loss of a tiny network and the weight of each image."""
    model = tiny.network()
    images, labels = tiny.batch()
    found = defense.training_loss(model, images, labels, tiny.step(model), defense.Knobs(**knobs))
    return found.total.item(), found.samples.get("lambda", torch.empty(0))


def test_one_weight_for_all_images_is_trades_with_that_beta() -> None:
    """What the batch's mean leaves of D-TRADES is a beta: the control differs in nothing else."""
    knobs = {"alpha": 2.0, "beta": 0.5, "differentiable": False}
    _, own = loss(dtrades, **knobs)
    total, given = loss(dtrades, **knobs, whose="batch_mean")
    torch.testing.assert_close(given, own.mean().expand_as(own))
    assert total == pytest.approx(loss(trades, beta=own.mean().item())[0], rel=1e-5)


def test_terms_alone_add_up_to_the_weight() -> None:
    both = loss(dtrades, alpha=2.0, beta=0.5, differentiable=False)[1]
    alpha = loss(dtrades, alpha=2.0, beta=0.0, differentiable=False)[1]
    beta = loss(dtrades, alpha=0.0, beta=0.5, differentiable=False)[1]
    torch.testing.assert_close(alpha + beta, both)


@pytest.mark.parametrize("name", ["dtrades_shuffled", "dtrades_alpha", "trades_matched"])
def test_a_variant_has_the_knobs_of_its_root(name: str) -> None:
    root = name.partition("_")[0]
    mine, theirs = (knobs_class("defenses", each).model_json_schema() for each in (name, root))
    assert mine == theirs


def logits_of(*probabilities: float) -> Tensor:
    return torch.tensor(probabilities).log()[None]


CLEAN, ADVERSARIAL = logits_of(0.7, 0.2, 0.1), logits_of(0.3, 0.5, 0.2)
LABEL = torch.tensor([0])
DIVERGENCE = 0.7 * math.log(0.7 / 0.3) + 0.2 * math.log(0.2 / 0.5) + 0.1 * math.log(0.1 / 0.2)


def test_mail_weighs_by_the_probabilistic_margin() -> None:
    weight = mail.margin_weight(ADVERSARIAL, LABEL, slope=2.0, bias=0.5)
    assert weight.item() == pytest.approx(3 / (1 + math.exp(-2 * (0.5 - 0.3 + 0.5))), rel=1e-6)


def test_weat_weighs_by_the_marginal_energy() -> None:
    # These logits are logarithms of numbers that add up to 1, times e^2.
    weight = weat.energy_weight(CLEAN + 2)
    assert weight.item() == pytest.approx(1 / math.log(1 + math.exp(2)), rel=1e-6)
    assert weat.energy_weight(CLEAN).item() == pytest.approx(1 / math.log(2), rel=1e-6)


def test_arow_doubts_the_label_as_the_attacked_image_does() -> None:
    assert arow.doubt(ADVERSARIAL, LABEL).item() == pytest.approx(0.7, rel=1e-6)


def test_vir_multiplies_vulnerability_and_discrepancy() -> None:
    knobs = vir.Knobs(alpha=7.0, gamma=3.0, floor=0.4)
    weight = vir.vulnerability_weight(CLEAN, ADVERSARIAL, LABEL, knobs)
    assert weight.item() == pytest.approx(7 * math.exp(-3 * 0.7) * DIVERGENCE + 0.4, rel=1e-5)


KNOBS: dict[str, tuple[ModuleType, dict[str, float]]] = {
    "ewat": (ewat, {"beta": 2.0}),
    "arow": (arow, {"beta": 7.0, "smoothing": 0.2}),
    "mail": (mail, {"beta": 6.0, "slope": 2.0, "bias": 0.0}),
    "weat": (weat, {"beta": 7.0}),
    "vir": (vir, {"alpha": 7.0, "gamma": 3.0, "floor": 3.0}),
}


def written_out(name: str, clean: Tensor, attacked: Tensor, labels: Tensor) -> Tensor:
    """The objective, from logits of the images and of the attacked ones."""
    divergence = kl_divergence(clean.log_softmax(1), attacked)
    own = labels[:, None]
    cross_entropy = F.cross_entropy(clean, labels)
    if name == "ewat":
        return cross_entropy + (2 * entropy(attacked).detach() * divergence).mean()
    if name == "arow":
        smoothed = 0.8 * cross_entropy - 0.2 * clean.log_softmax(1).mean()
        doubt = 1 - attacked.softmax(1).gather(1, own)[:, 0]
        return smoothed + 7 * (doubt * divergence).mean()
    if name == "mail":
        probabilities = attacked.softmax(1).detach()
        rival = probabilities.scatter(1, own, 0.0).amax(1)
        towards_error = rival - probabilities.gather(1, own)[:, 0]
        return cross_entropy + (18 * (2 * towards_error).sigmoid() * divergence).mean()
    if name == "weat":
        weight = 1 / (1 + clean.exp().sum(1).log().abs().exp()).log().detach()
        return (weight * (F.cross_entropy(attacked, labels, reduction="none")
                          + 7 * divergence)).mean()  # fmt: skip
    weight = 7 * (-3 * clean.softmax(1).gather(1, own)[:, 0]).exp() * divergence + 3
    return cross_entropy + (weight.detach() * divergence).mean()


@pytest.mark.parametrize("name", KNOBS)
def test_competitors_are_their_formula_at_the_attack_of_trades(name: str) -> None:
    defense, values = KNOBS[name]
    knobs: Section = defense.Knobs(**values)
    images, labels = tiny.batch()
    model, other = tiny.network(), tiny.network()
    found = defense.training_loss(model, images, labels, tiny.step(model), knobs)
    step = tiny.step(other)
    attacked = trades.adversarial_examples(images, step.eval_logits(images), step)
    expected = written_out(name, other(images), other(attacked), labels)
    torch.testing.assert_close(found.total, expected)
    mine, theirs = (
        torch.autograd.grad(total, list(network.parameters()))
        for total, network in ((found.total, model), (expected, other))
    )
    torch.testing.assert_close(mine, theirs)
    for weight in found.samples.values():
        assert weight.shape == labels.shape and not weight.requires_grad and (weight >= 0).all()
