"""PixelDefend: golden densities and purifications, gradients straight through, and what rejects."""

import math
from dataclasses import replace
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import golden, tiny
from tradeoff.attacks import bim
from tradeoff.attacks.suites.asking import rejection_threshold
from tradeoff.classifiers import purified
from tradeoff.classifiers.pixelcnn import PixelCnn, best_level, bits_per_dimension
from tradeoff.core.schema import BadParams
from tradeoff.defenses import pixeldefend
from tradeoff.networks.folding import attacked_twin
from tradeoff.networks.losses import margin
from tradeoff.networks.threat import Threat

LEVELS = 17
IMAGE = (1, 8, 8)
KNOBS = purified.Knobs(levels=LEVELS, width=6, layers=2, radius=2, spared=None)


def levels() -> Tensor:
    assert int(golden.number("pixels/levels")) == LEVELS
    return golden.tensor("pixels/images")


def density() -> PixelCnn:
    network = PixelCnn(LEVELS, 6, 2)
    network.load_state_dict(golden.under("pixels/network/"))
    return network.double()


def log_likelihood(logits: Tensor, images: Tensor) -> Tensor:
    """Of images (N, 1, H, W) under logits (N, K, H, W)."""
    return F.log_softmax(logits, 1).gather(1, images).flatten(1).sum(1)


def radii() -> list[int]:
    found: list[int] = golden.tensor("pixels/eps").tolist()
    return found


def test_logits_and_likelihoods_of_the_causal_network() -> None:
    logits = density()(levels().double())
    golden.assert_close(logits, golden.tensor("pixels/causal/logits"), 1e-9)
    expected = golden.tensor("pixels/causal/log_likelihood")
    golden.assert_close(log_likelihood(logits, levels()), expected, 1e-9)


@pytest.mark.parametrize("row", range(5))
def test_one_cached_pass_purifies_as_one_pass_for_each_pixel_does(row: int) -> None:
    images = levels()
    radius = torch.full((len(images),), radii()[row])
    network = density().float()
    found = network.most_likely(images, radius)
    assert torch.equal(found, golden.tensor("pixels/causal/purified")[row])
    one_by_one = torch.cat([network.most_likely(image[None], radius[:1]) for image in images])
    assert torch.equal(found, one_by_one)


def test_images_that_are_not_square_are_decoded_as_well() -> None:
    images = levels()[:, :, :5, :7]
    network, radius = density(), torch.full((len(images),), 3)
    purified = images.clone()
    for row, column in product(range(5), range(7)):
        logits = network(purified.double())[:, :, row, column]
        purified[:, 0, row, column] = best_level(logits, images[:, 0, row, column], radius)
    assert torch.equal(network.most_likely(images, radius), purified)


@pytest.mark.parametrize("row", range(5))
def test_the_best_level_near_its_own(row: int) -> None:
    """Where no pixel depends on others, and where each does on two."""
    images = levels()[:, 0]
    radius = torch.full(images.shape, radii()[row])
    static = best_level(golden.tensor("pixels/static/logits"), images, radius)
    assert torch.equal(static, golden.tensor("pixels/static/purified")[row][:, 0])
    chain = images.clone()
    for row_, column in product(range(8), range(8)):
        here = (slice(None), row_, column)
        chain[here] = best_level(chain_logits(chain)[here], images[here], radius[here])
    assert torch.equal(chain, golden.tensor("pixels/chain/purified")[row][:, 0])


def chain_logits(images: Tensor) -> Tensor:
    """A table of logits, and what the neighbours to the left and above add, (N, H, W, K)."""
    left, up = golden.tensor("pixels/chain/left"), golden.tensor("pixels/chain/up")
    logits = golden.tensor("pixels/chain/table").repeat(len(images), 1, 1, 1)
    logits[:, :, 1:] += left[images[:, :, :-1]]
    logits[:, 1:] += up[images[:, :-1]]
    return logits


def test_bits_per_dimension_of_a_chain() -> None:
    logits = chain_logits(levels()[:, 0]).permute(0, 3, 1, 2)
    likelihood = log_likelihood(logits, levels())
    golden.assert_close(likelihood, golden.tensor("pixels/chain/log_likelihood"), 1e-12)
    expected = golden.tensor("pixels/chain/bits_per_dimension")
    golden.assert_close(bits_per_dimension(likelihood, 64), expected, 1e-12)


def test_a_density_without_weights_takes_the_logarithm_of_the_levels() -> None:
    model = purified.Purified(nn.Identity(), KNOBS)
    nn.init.zeros_(model.density.out.weight)
    nn.init.zeros_(model.density.out.bias)
    bits = model.bits(levels().float() / (LEVELS - 1))
    torch.testing.assert_close(bits, torch.full_like(bits, math.log2(LEVELS)))


def test_images_go_to_their_nearest_levels() -> None:
    found = purified.to_levels(golden.tensor("pixels/rounding/image"), LEVELS)
    assert torch.equal(found, golden.tensor("pixels/rounding/level"))
    grid = torch.arange(256)
    assert torch.equal(purified.to_levels(grid.float() / 255, 256), grid)


def test_likely_images_are_spared() -> None:
    bits = bits_per_dimension(golden.tensor("pixels/pvalue/test"), 64)
    threshold = golden.tensor("pixels/adaptive/threshold")
    spared = float(bits_per_dimension(threshold, 64))
    found = purified.radii(bits, int(golden.number("pixels/adaptive/eps")), spared)
    assert torch.equal(found, golden.tensor("pixels/adaptive/used_eps"))


def test_the_threshold_of_validation_rejects_by_p_values() -> None:
    reference, test = golden.tensor("pixels/pvalue/reference"), golden.tensor("pixels/pvalue/test")
    no_likelier = (reference <= test[:, None]).sum(1)
    value = (no_likelier + 1) / (len(reference) + 1)
    golden.assert_close(value, golden.tensor("pixels/pvalue/value"), 1e-6)
    strict = (reference < test[:, None]).double().mean(1)
    golden.assert_close(strict, golden.tensor("pixels/pvalue/strict_share"), 1e-12)
    threshold = rejection_threshold(bits_per_dimension(reference, 64))
    rejected = bits_per_dimension(test, 64) > threshold
    assert torch.equal(rejected, value < 8.5 / 151), "7 of 150 images may be less likely"
    assert rejected.any() and not rejected.all()


def golden_model() -> purified.Purified:
    model = purified.build([golden.network("standard")], KNOBS, image=IMAGE, seed=0)
    assert isinstance(model, purified.Purified)
    model.density.load_state_dict(golden.under("pixels/network/"))
    return model.eval().requires_grad_(False)


def test_the_gradient_goes_straight_through_the_purification() -> None:
    model, (images, labels) = golden_model(), tiny.batch(8)
    points = images.requires_grad_()
    F.cross_entropy(model(points), labels).backward()
    moved = (golden_model().purify(images) * (LEVELS - 1)).round() / (LEVELS - 1)
    assert float((moved - images).abs().amax()) <= 2.5 / (LEVELS - 1) + 1e-6
    inner = moved.detach().requires_grad_()
    F.cross_entropy(model.network(inner), labels).backward()
    torch.testing.assert_close(points.grad, inner.grad)


class OnePixel(nn.Module):
    """Class 1 says how bright the pixel in row 4, column 4 is, class 0 how dark."""

    def forward(self, images: Tensor) -> Tensor:
        pixel = images[:, 0, 4, 4]
        return torch.stack([1 - pixel, pixel], 1)


def one_pixel() -> purified.Purified:
    model = purified.Purified(OnePixel(), KNOBS)
    model.density.load_state_dict(golden.under("pixels/network/"))
    return model.eval().requires_grad_(False)


def test_attacks_climb_what_says_the_same_and_see_what_a_pixel_does_to_those_after_it() -> None:
    model, (images, _) = one_pixel(), tiny.batch(8)
    surrogate, points = attacked_twin(model, images), images.clone().requires_grad_()
    assert torch.equal(surrogate(images), model(images))
    assert torch.equal(surrogate(points), model(images))
    gradient = torch.autograd.grad(surrogate(points)[:, 1].sum(), points)[0].flatten(1)
    place = 4 * 8 + 4
    assert (gradient[:, place] > 0).all(), "its own level"
    assert (gradient[:, :place] != 0).any(1).all(), "those before it"
    assert not gradient[:, place + 1 :].any(), "none after it"
    straight = torch.autograd.grad(model(points)[:, 1].sum(), points)[0].flatten(1)
    assert not straight[:, :place].any()


def test_the_surrogate_leads_farther_than_the_identity() -> None:
    model = one_pixel()
    images = levels().float() / (LEVELS - 1)
    labels = torch.zeros(len(images), dtype=torch.long)
    threat, budget = Threat("linf", 0.125), bim.Knobs(steps=10, relative_step_size=0.25)
    straight, found = (
        margin(model(bim.bim(climbed, images, labels, budget, threat).images), labels)
        for climbed in (model, attacked_twin(model, images))
    )
    assert (found <= straight).all() and (found < straight).any()


def test_suspicion_has_the_gradient_of_levels_in_between() -> None:
    """Of the last pixel, on which no other depends: the slope between its two levels."""
    model = golden_model().double()
    places = levels().double()
    places[..., -1, -1] = places[..., -1, -1].clamp_max(LEVELS - 2) + 0.25
    images = (places / (LEVELS - 1)).requires_grad_()
    score = model.rejection_score(images)
    score.sum().backward()
    near = places.floor().long()
    logarithms = F.log_softmax(model.density(near.double()), 1)[:, :, -1, -1]
    lower = near[:, :, -1, -1]
    slope = (logarithms.gather(1, lower + 1) - logarithms.gather(1, lower)).squeeze(1)
    expected = bits_per_dimension(slope, 64) * (LEVELS - 1)
    assert images.grad is not None
    torch.testing.assert_close(images.grad[:, 0, -1, -1], expected)
    at_levels = log_likelihood(model.density(near.double()), near)
    torch.testing.assert_close(score, bits_per_dimension(at_levels, 64))


def test_a_plain_network_can_be_loaded_into_it_and_a_whole_one() -> None:
    model, plain = golden_model(), golden.network("robust").eval()
    before = {name: tensor.clone() for name, tensor in model.density.state_dict().items()}
    state = plain.state_dict()
    names = list(state)
    model.load_state_dict(state)
    assert list(state) == names, "the caller's own is left alone"
    torch.testing.assert_close(model.network.state_dict(), plain.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(model.density.state_dict(), before, rtol=0, atol=0)
    other = purified.build([golden.network("standard")], KNOBS, image=IMAGE, seed=1)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.state_dict(), model.state_dict(), rtol=0, atol=0)
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict({})


@pytest.mark.parametrize(
    ("levels", "width", "layers", "parameters"), [(17, 16, 3, 7_700), (256, 32, 5, 56_000)]
)
def test_density_models_are_small(levels: int, width: int, layers: int, parameters: int) -> None:
    """Of digits, and of MNIST."""
    model = PixelCnn(levels, width, layers)
    found = sum(parameter.numel() for parameter in model.parameters())
    assert found == pytest.approx(parameters, rel=0.02)


def test_coloured_images_are_refused() -> None:
    with pytest.raises(BadParams, match="knows grey images; these have 3 channels"):
        purified.build([tiny.network()], KNOBS, image=(3, 8, 8), seed=0)


def step_of(model: purified.Purified) -> Any:
    return replace(tiny.step(model), network=model)


def test_training_makes_images_likelier_and_leaves_the_network_alone() -> None:
    model = purified.build([golden.network("standard")], KNOBS, image=IMAGE, seed=0).train()
    assert isinstance(model, purified.Purified)
    network = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    knobs = SimpleNamespace(fine_tuning={"epochs": 1, "rate": 1.0})
    images = levels().float() / (LEVELS - 1)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    bits = []
    for _ in range(30):
        loss = pixeldefend.training_loss(model, images, images[:, 0, 0, 0], step_of(model), knobs)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        bits.append(float(loss.parts["bits_per_dimension"]))
    assert bits[-1] < bits[0] - 0.2
    torch.testing.assert_close(model.network.state_dict(), network, rtol=0, atol=0)


def test_a_network_that_no_one_trained_is_not_protected() -> None:
    model, (images, labels) = golden_model(), tiny.batch()
    knobs = SimpleNamespace(fine_tuning=None)
    with pytest.raises(BadParams, match=r"pixeldefend\.fine_tuning: is null"):
        pixeldefend.training_loss(model, images, labels, step_of(model), knobs)
