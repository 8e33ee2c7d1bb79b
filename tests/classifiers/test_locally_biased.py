"""Locally biased smoothing against the paper's equations."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests import golden, tiny
from tradeoff.attacks.pgd import Knobs as Pgd
from tradeoff.attacks.pgd import pgd
from tradeoff.classifiers.locally_biased import Knobs, LocallyBiased, build
from tradeoff.core.schema import BadParams
from tradeoff.networks.threat import Threat

BEFORE = Threat("l2", 0.1)
BUDGET = Pgd(loss="cross_entropy", steps=20, relative_step_size=0.1, restarts=1)


def made(norm: str, alpha: float) -> LocallyBiased:
    """The golden network and memories, of which the golden class is one and the others another."""
    memory, label = golden.tensor("lbrs/memory"), golden.tensor("lbrs/memory_label")
    own = int(golden.number("lbrs/network/class"))
    knobs = Knobs(alpha=alpha, memory=len(memory))
    found = build([golden.network("standard").eval()], knobs, image=(1, 8, 8), seed=0)
    assert isinstance(found, LocallyBiased)
    classes = torch.where(label > 0, own, (own + 1) % 10)
    threat = Threat("l2" if norm == "l2" else "linf", 0.1)
    found.double().calibrate(memory.view(-1, 1, 8, 8), classes, threat)
    return found


def points() -> Tensor:
    return golden.tensor("lbrs/points").double().view(-1, 1, 8, 8)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_score_of_a_class_is_the_papers(norm: str) -> None:
    own, alpha = int(golden.number("lbrs/network/class")), golden.number("lbrs/alpha")
    nearest = golden.tensor("lbrs/memory_label")[golden.tensor("lbrs/nearest")]
    assert torch.equal(nearest.long(), golden.tensor("lbrs/oracle").long())
    images = points()
    plain, biased = made(norm, 0.0)(images)[:, own], made(norm, alpha)(images)[:, own]
    golden.assert_close(plain, golden.tensor("lbrs/network/score"), 1e-8)
    # The file's own sum has alpha in float32, hence 1e-7; the norm in it is exact, below.
    golden.assert_close(biased, golden.tensor(f"lbrs/{norm}/network/smoothed"), 1e-7)
    length = (biased - plain) / (alpha * golden.tensor("lbrs/oracle"))
    golden.assert_close(length, golden.tensor(f"lbrs/{norm}/network/gradient_norm"), 1e-8)


def test_without_bias_it_is_the_network_and_with_much_the_nearest_memory() -> None:
    images = points()
    network = golden.network("standard").eval().double()
    assert torch.equal(made("l2", 0.0)(images).argmax(1), network(images).argmax(1))
    far = made("linf", 1e6)
    assert torch.equal(far(images).argmax(1), far.nearest(images))


def test_gradients_are_those_of_differences_and_none_is_kept_without_need() -> None:
    model, images = made("l2", 0.5), points()
    assert not model(images).requires_grad
    images.requires_grad_()
    (slope,) = torch.autograd.grad(model(images)[:, 3].sum(), images)
    draws = torch.Generator().manual_seed(0)
    step = 1e-5 * torch.randn(images.shape, generator=draws, dtype=torch.float64)
    with torch.no_grad():
        rise = (model(images + step) - model(images - step))[:, 3] / 2
    torch.testing.assert_close(rise, (slope * step).flatten(1).sum(1), rtol=1e-3, atol=1e-9)


def test_more_memories_than_there_are_is_told() -> None:
    images, labels = tiny.batch(4)
    model = LocallyBiased(tiny.network().eval(), 1.0, 9, (1, 8, 8))
    with pytest.raises(BadParams, match="memory: is 9; validation has 4 images"):
        model.calibrate(images, labels, BEFORE)


def test_an_attack_on_its_surrogate_finds_what_its_own_gradients_hide() -> None:
    """Every image is within reach of the radius 1; the bias leaves the cross-entropy no slope."""
    model, images = made("linf", 100.0), points()
    surrogate, labels = model.surrogate(), model(images).argmax(1)
    assert torch.equal(surrogate(images).argmax(1), labels)
    slopes, left = {}, {}
    for name, network in (("own", model), ("surrogate", surrogate)):
        start = images.clone().requires_grad_()
        loss = F.cross_entropy(network(start), labels, reduction="none")
        (slope,) = torch.autograd.grad(loss.sum(), start)
        slopes[name] = slope.flatten(1).abs().amax(1)
        found = pgd(network, images, labels, BUDGET, Threat("linf", 1.0), torch.arange(len(labels)))
        left[name] = (model(found.images).argmax(1) == labels).float().mean()
    assert (slopes["surrogate"] > 1e-3).all() and (slopes["own"] == 0).any()
    assert left["surrogate"] == 0 < left["own"]
