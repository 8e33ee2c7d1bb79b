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

from tests.attacks.calls import fmn
from tradeoff.attacks.nearest import Nearest

NORMS = ["l0", "l2", "linf"]


@pytest.mark.parametrize("norm", NORMS)
def test_keeps_the_contract(norm):
    assert_keeps_the_contract(lambda *inputs: fmn(*inputs, norm=norm, steps=40), norm)


@pytest.mark.parametrize(
    ("norm", "other", "network"),
    [
        ("l0", foolbox.attacks.L0FMNAttack, natural),
        ("l0", foolbox.attacks.L0FMNAttack, robust),
        # foolbox 3.3.4's L2FMNAttack does not project; DDN is the stronger yardstick.
        ("l2", foolbox.attacks.L2FMNAttack, robust),
        ("l2", foolbox.attacks.DDNAttack, natural),
        ("l2", foolbox.attacks.DDNAttack, robust),
        ("linf", foolbox.attacks.LInfFMNAttack, natural),
        ("linf", foolbox.attacks.LInfFMNAttack, robust),
    ],
)
def test_as_strong_as_foolbox(norm, other, network):
    model, (images, labels) = network(), test_digits(500)
    ours = fmn(model, images, labels, norm=norm, steps=40)
    assert_as_strong(model, images, labels, norm, ours, other(steps=40))
    assert ours.queries.max() <= 40


@pytest.mark.parametrize(("norm", "dual"), [("l2", 2), ("linf", 1)])
def test_exact_on_two_linear_classes(norm, dual):
    model, images, labels = linear(classes=2)
    adversarial = fmn(model, images, labels, norm=norm, steps=200)
    ratio = distances(adversarial.images, images, norm) / linear_distance(
        model, images, labels, dual
    )
    assert ratio.min() > 0.999 and ratio.max() < 1.01


@pytest.mark.parametrize(("norm", "dual"), [("l2", 2), ("linf", 1)])
def test_near_the_optimum_on_four_linear_classes(norm, dual):
    model, images, labels = linear(classes=4)
    adversarial = fmn(model, images, labels, norm=norm)
    ratio = distances(adversarial.images, images, norm) / linear_distance(
        model, images, labels, dual
    )
    assert ratio.min() > 0.999 and ratio.mean() < 1.03


def test_l0_exact_on_two_linear_classes():
    """Without bounds in the way, the largest weights times the room they have are what counts."""
    model, images, labels = linear(classes=2)
    weight = (model[1].weight[1] - model[1].weight[0]) * (1 - 2 * labels[:, None])
    room = torch.where(weight > 0, 1 - images.flatten(1), images.flatten(1))
    gains = (weight.abs() * room).sort(dim=1, descending=True).values.cumsum(1)
    logits = model(images)
    margin = (logits[:, 0] - logits[:, 1]).abs()
    fewest = (gains <= margin[:, None]).sum(1) + 1
    adversarial = fmn(model, images, labels, norm="l0")
    assert torch.equal(distances(adversarial.images, images, "l0").long(), fewest)


def test_nearest_keeps_the_nearer_of_two_candidates_of_a_sample():
    images = torch.full((2, 1, 1, 2), 0.5)
    nearest = Nearest(images, torch.tensor([0, 0]), "linf")
    rows = torch.tensor([1, 1, 0, 1])
    candidates = images[rows] + torch.tensor([0.3, 0.1, 0.4, 0.05])[:, None, None, None]
    logits = torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    assert nearest.update(rows, candidates, logits).tolist() == [True, True, False, False]
    assert torch.equal(nearest.images, torch.stack([images[0], candidates[1]]))
    assert nearest.queries.tolist() == [1, 3]
    # Farther than what there is, or short of the confidence: not taken.
    nearest.update(torch.tensor([1]), candidates[:1], logits[:1])
    nearest.update(torch.tensor([0]), candidates[:1], logits[:1], confidence=2.0)
    assert torch.equal(nearest.images, torch.stack([images[0], candidates[1]]))


@pytest.mark.parametrize(
    "wrong", [{"norm": "l1"}, {"norm": "l2", "steps": 0}, {"norm": "l2", "gamma": 1.0}]
)
def test_refuses(wrong):
    with pytest.raises(ValueError, match=next(name for name in reversed(wrong))):
        fmn(natural(), *test_digits(2), **wrong)
