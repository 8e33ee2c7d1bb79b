"""Confidence-calibrated adversarial training against golden numbers."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests import golden, tiny
from tradeoff.defenses import ccat
from tradeoff.networks.ascent import ascend
from tradeoff.networks.backtracking import (
    Backtracking,
    ascend_rival,
    backtracking_iterates,
    rival_log_probability,
)
from tradeoff.networks.threat import perturbation_norm
from tradeoff.training.contract import Step

SPLIT, EPSILON = int(golden.number("ccat/split")), golden.number("digits/eps")


def batch() -> tuple[Tensor, Tensor]:
    return golden.images("digits/").double(), golden.labels("digits/")


def budget(steps: int) -> Backtracking:
    rate, momentum, factor = (
        golden.number(f"ccat/{name}") for name in ("rate", "momentum", "rate_factor")
    )
    return Backtracking(steps, rate, momentum, factor)


def start(name: str) -> Tensor:
    images = batch()[0][SPLIT:]
    return images + golden.tensor(f"ccat/{name}/start").double() if name == "random" else images


@pytest.mark.parametrize("name", ["zero", "mild", "random"])
def test_the_attack_takes_back_what_gains_nothing_and_keeps_the_best(name: str) -> None:
    model = tiny.calm(golden.network("digits/state").double())
    images, labels = (part[SPLIT:] for part in batch())
    threat = golden.inner_attack("digits/").threat
    steps = int(golden.number(f"ccat/{name}/iterations"))
    found = ascend_rival(model, images, labels, start(name), threat, budget(steps))
    golden.assert_images_close(found - images, f"ccat/{name}/delta")
    surest = rival_log_probability(model(found), labels).exp()
    golden.assert_close(surest, golden.tensor(f"ccat/{name}/objective"))
    if name == "mild":
        return  # it has no trace
    trace = list(
        backtracking_iterates(
            lambda points: rival_log_probability(model(points), labels),
            images,
            start(name),
            threat,
            budget(steps),
        )
    )
    values = torch.stack([iterate.values for iterate in trace]).exp()
    golden.assert_close(values, golden.tensor(f"ccat/{name}/trace/objective"))
    rates = torch.stack([iterate.rates for iterate in trace])
    golden.assert_close(rates, golden.tensor(f"ccat/{name}/trace/rate"))


def test_without_momentum_and_backtracking_it_is_plain_ascent() -> None:
    model = tiny.calm(golden.network("digits/state").double())
    images, labels = (part[SPLIT:] for part in batch())
    inner = golden.inner_attack("digits/")
    best, highest = images, torch.full((len(images),), -torch.inf).double()
    for steps in range(int(golden.number("ccat/plain/iterations")) + 1):
        budget_so_far = type(inner)(inner.threat, steps, inner.step_size)
        point = ascend(
            lambda points: rival_log_probability(model(points), labels),
            images,
            images,
            budget_so_far,
        )
        value = rival_log_probability(model(point), labels)
        better = value > highest
        best = torch.where(better[:, None, None, None], point, best)
        highest = torch.where(better, value, highest)
    golden.assert_images_close(best - images, "ccat/plain/delta")
    golden.assert_close(highest.exp(), golden.tensor("ccat/plain/objective"))


@pytest.mark.parametrize("name", ["zero", "mild", "random", "plain"])
def test_targets_loss_and_gradients(name: str) -> None:
    model = golden.network("digits/state").double()
    images, labels = batch()
    delta = golden.tensor(f"ccat/{name}/delta").double()
    distance = perturbation_norm(delta, "linf")
    golden.assert_close(distance, golden.tensor(f"ccat/{name}/norm"))
    share = ccat.transition(distance, EPSILON, golden.number(f"ccat/{name}/rho"))
    expected = golden.tensor(f"ccat/{name}/lambda")
    torch.testing.assert_close(share, expected, atol=1e-5, rtol=1e-5)
    targets = ccat.soft_targets(share, labels[SPLIT:], 10)
    golden.assert_close(targets, golden.tensor(f"ccat/{name}/target"))
    logits = model(torch.cat([images[:SPLIT], images[SPLIT:] + delta]))
    loss, parts = ccat.objective(logits, labels[:SPLIT], targets)
    golden.assert_close(parts["clean"], golden.tensor(f"ccat/{name}/loss_clean"))
    golden.assert_close(parts["adversarial"], golden.tensor(f"ccat/{name}/loss_adv"))
    if name == "plain":
        golden.assert_close(loss.detach(), golden.tensor("ccat/plain/loss"))
    else:
        golden.assert_loss_and_gradients(f"ccat/{name}", model, loss)


def knobs(**changes: Any) -> ccat.Knobs:
    values = {
        "rho": golden.number("ccat/zero/rho"),
        "steps": int(golden.number("ccat/zero/iterations")),
        "relative_step_size": golden.number("ccat/rate") / EPSILON,
        "momentum": golden.number("ccat/momentum"),
        "factor": golden.number("ccat/rate_factor"),
    }
    return ccat.Knobs.model_validate(values | changes)


@pytest.mark.parametrize(("name", "count"), [("zero", 16), ("odd", 15)])
def test_whole_training_loss(name: str, count: int) -> None:
    """Of an odd batch the clean half is the smaller one, and has the larger weight."""
    model = golden.network("digits/state").double()
    images, labels = (part[:count] for part in batch())
    inner = golden.inner_attack("digits/")
    step = Fixed(tiny.calm(model), inner, that_draws(2), 0, 1, 0.0, model)
    loss = ccat.training_loss(model, images, labels, step, knobs())
    golden.assert_close(loss.parts["clean"], golden.tensor(f"ccat/{name}/loss_clean"))
    golden.assert_close(loss.parts["adversarial"], golden.tensor(f"ccat/{name}/loss_adv"))
    golden.assert_close(loss.total.detach(), golden.tensor(f"ccat/{name}/loss"))


def that_draws(kind: int) -> torch.Generator:
    """A generator whose next number below 3 is this one."""
    for seed in range(100):
        if torch.randint(3, (), generator=torch.Generator().manual_seed(seed)) == kind:
            return torch.Generator().manual_seed(seed)
    raise AssertionError


class Fixed(Step):
    """A step whose noise takes nothing from the generator."""

    def gaussian_noise(self, images: Tensor) -> Tensor:
        return torch.ones_like(images)

    def uniform(self, images: Tensor) -> Tensor:
        return torch.ones(len(images), dtype=images.dtype)


def test_the_transition_from_label_to_uniform() -> None:
    norms = golden.tensor("ccat/transition/norm")
    for rho in (1, 2, 6, 10, 12):
        found = ccat.transition(norms, EPSILON, rho)
        expected = golden.tensor(f"ccat/transition/power{rho}")
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-9)
    assert golden.number("ccat/rho") == golden.number("ccat/zero/rho")
    # The authors' other transition leaves the label a share at epsilon, where ours leaves none.
    exponential = golden.tensor("ccat/transition/exponential10")
    torch.testing.assert_close((-10 * norms).exp(), exponential, atol=1e-12, rtol=1e-9)
    far = norms >= EPSILON
    assert (exponential[far] > 0).all() and (ccat.transition(norms, EPSILON, 10)[far] == 0).all()
    linear = golden.tensor("ccat/transition/linear1")
    torch.testing.assert_close(ccat.transition(norms, EPSILON, 1), linear, atol=1e-12, rtol=1e-9)


def test_there_are_three_kinds_of_start() -> None:
    images = torch.full((4, 1, 8, 8), 0.5)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    radius = torch.tensor([0.0, 0.25, 0.5, 1.0])
    normal, even, none = (
        ccat.start_point(images, noise, radius, torch.tensor(kind), 0.2) for kind in range(3)
    )
    assert torch.equal(none, images)
    torch.testing.assert_close(perturbation_norm(even - images, "linf"), 0.2 * radius)
    spread = (normal - images).std().item()
    assert spread == pytest.approx(0.2 / (2 * torch.tensor(64.0).log().item()), rel=0.1)


def test_a_target_is_a_distribution() -> None:
    share = torch.tensor([0.0, 0.5, 1.0])
    targets = ccat.soft_targets(share, torch.tensor([0, 1, 2]), 4)
    torch.testing.assert_close(targets.sum(1), torch.ones(3))
    assert torch.equal(targets[0], torch.full((4,), 0.25)) and targets[2, 2] == 1
