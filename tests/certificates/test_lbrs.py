"""The certificate of locally biased smoothing: the paper's numbers, and no attack breaks it."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import golden, tiny
from tradeoff.attacks.pgd import Knobs as Pgd
from tradeoff.attacks.pgd import pgd
from tradeoff.certificates.lbrs import (
    Knobs,
    base_radius,
    certify,
    data_radius,
    softplus_lipschitz,
)
from tradeoff.classifiers.locally_biased import LocallyBiased
from tradeoff.core.schema import BadParams
from tradeoff.networks.models import Blueprint, build_network
from tradeoff.networks.threat import Threat

ORDERS = {"l2": 2, "linf": 1}  # of the dual norms


def published(name: str) -> Tensor:
    return golden.tensor(f"lbrs/{name}").double()


@pytest.mark.parametrize("norm", ORDERS)
def test_the_radius_of_the_memories_is_the_papers(norm: str) -> None:
    found = data_radius(published("points"), published("memory"), published("memory_label"), norm)
    golden.assert_close(found, published(f"{norm}/data_radius"), 1e-8)


@pytest.mark.parametrize("norm", ORDERS)
def test_the_radius_of_a_linear_score_is_the_papers(norm: str) -> None:
    weight, alpha, oracle = published("linear/weight"), published("alpha"), published("oracle")
    score = published("points") @ weight + published("linear/bias")
    golden.assert_close(score, published("linear/score"), 1e-8)
    length = weight.norm(ORDERS[norm]).expand(len(score))
    biased = score + alpha * oracle * length
    golden.assert_close(biased, published(f"{norm}/linear/smoothed"), 1e-7)
    base = base_radius(biased, length, 0.0, alpha, tight=False)
    golden.assert_close(base, published(f"{norm}/linear/base_radius"), 1e-7)
    radius = base.minimum(published(f"{norm}/data_radius"))
    golden.assert_close(radius, published(f"{norm}/linear/radius"), 1e-7)


@pytest.mark.parametrize("norm", ORDERS)
def test_the_radius_of_a_smooth_score_is_the_papers(norm: str) -> None:
    weight, readout = published("smooth/weight"), published("smooth/readout")
    points = published("points").requires_grad_()
    score = F.softplus(points @ weight.T + published("smooth/offset")) @ readout
    score = score + published("smooth/bias")
    golden.assert_close(score.detach(), published("smooth/score"), 1e-8)
    (slope,) = torch.autograd.grad(score.sum(), points)
    golden.assert_close(slope, published("smooth/gradient"), 1e-8)
    length, alpha = slope.norm(ORDERS[norm], 1), published("alpha")
    golden.assert_close(length, published(f"{norm}/smooth/gradient_norm"), 1e-8)
    curvature = softplus_lipschitz(weight, readout, norm)
    golden.assert_close(curvature, published(f"{norm}/smooth/lipschitz"), 1e-8)
    biased = score.detach() + alpha * published("oracle") * length
    golden.assert_close(biased, published(f"{norm}/smooth/smoothed"), 1e-7)
    for tight, name in ((False, "base_radius"), (True, "tight_base_radius")):
        found = base_radius(biased, length, curvature, alpha, tight)
        golden.assert_close(found, published(f"{norm}/smooth/{name}"), 1e-7)
    base = base_radius(biased, length, curvature, alpha, tight=False)
    radius = base.minimum(published(f"{norm}/data_radius"))
    golden.assert_close(radius, published(f"{norm}/smooth/radius"), 1e-7)


def test_the_radii_of_given_numbers_are_the_papers() -> None:
    score, length, curvature, alpha, oracle = (
        published(f"cases/{name}")
        for name in ("score", "gradient_norm", "lipschitz", "alpha", "oracle")
    )
    biased = score + alpha * oracle * length
    golden.assert_close(biased, published("cases/smoothed"), 1e-8)
    for tight, name in ((False, "base_radius"), (True, "tight_base_radius")):
        found = base_radius(biased, length, curvature, alpha, tight)
        golden.assert_close(found, published(f"cases/{name}"), 1e-8)


def made(norm: str) -> tuple[LocallyBiased, Tensor, Tensor]:
    """A trained softplus network of two patterns, biased, and images of them."""
    draws = torch.Generator().manual_seed(0)
    patterns = torch.rand(2, 1, 8, 8, generator=draws)
    labels = torch.arange(60) % 2
    images = 0.5 * patterns[labels] + 0.5 * torch.rand(60, 1, 8, 8, generator=draws)
    network = build_network(Blueprint("softplus", "any", (1, 8, 8), 2, 0.25), [0.5], [0.4], 0)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(30):
        optimizer.zero_grad()
        F.cross_entropy(network(images[20:]), labels[20:]).backward()
        optimizer.step()
    model = LocallyBiased(network.eval(), 0.05, 20, (1, 8, 8)).eval()
    model.calibrate(images[:20], labels[:20], Threat(norm, 0.1))  # type: ignore[arg-type]
    return model, images[20:], labels[20:]


@pytest.mark.parametrize("tight", [False, True])
@pytest.mark.parametrize("norm", ORDERS)
def test_no_attack_within_the_radius_changes_the_prediction(norm: str, tight: bool) -> None:
    model, images, labels = made(norm)
    threat, keys = Threat(norm, 0.1), torch.arange(len(images))  # type: ignore[arg-type]
    found = certify(model, images, threat, keys=keys, batch_size=7, knobs=Knobs(tight=tight))
    assert torch.equal(found.prediction, model(images).argmax(1))
    assert (found.prediction == labels).float().mean() > 0.8
    assert (found.radius > 0).all() and found.radius.isfinite().all()
    budget = Pgd(loss="margin", steps=20, relative_step_size=0.1, restarts=1)
    some = found.radius.quantile(torch.tensor([0.1, 0.5]).double()).tolist()
    for epsilon in (*some, 4.0 if norm == "l2" else 1.0):
        reach = Threat(norm, 0.999 * epsilon)  # type: ignore[arg-type]
        moved = pgd(model.surrogate(), images, found.prediction, budget, reach, keys).images
        changed = model(moved).argmax(1) != found.prediction
        assert not (changed & (found.radius >= epsilon)).any()
    assert changed.any(), "an attack of many times the radii changes none either"


def test_other_networks_and_more_classes_have_no_proof() -> None:
    images, _ = tiny.batch(4)
    relu = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 2))
    four = build_network(Blueprint("softplus", "any", (1, 8, 8), 4, 0.25), [0.5], [0.4], 0)
    for network in (relu, four):
        model = LocallyBiased(network.eval(), 1.0, 4, (1, 8, 8))
        with pytest.raises(BadParams, match="two classes and the architecture softplus alone"):
            certify(
                model, images, Threat("l2", 0.1), keys=torch.arange(4), batch_size=4,
                knobs=Knobs(tight=False),
            )  # fmt: skip
