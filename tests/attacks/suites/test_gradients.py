"""Gradient diagnostics against closed forms on linear models and broken ones."""

import math

import pytest
import torch
from torch import Tensor, nn

from tests.attacks.trained import L2, LINF, linear, trained
from tradeoff.attacks.suites.gradients import everywhere, fosc, gradient_checks
from tradeoff.networks.randomness import generator, sample_keys
from tradeoff.networks.threat import Threat, per_sample, perturbation_norm, project

NAMES = {"fooled", "fosc", "gradient_cosine", "zero_gradient", "fooled_at_large_epsilon"}


class Changed(nn.Module):
    """A model with something done to its images or logits."""

    def __init__(self, model: nn.Module, before=lambda images: images, scale: float = 1) -> None:
        super().__init__()
        self.model, self.before, self.scale = model, before, scale

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * self.model(self.before(images))


def drawn(count: int = 8, low: float = 0.0, high: float = 1.0) -> tuple[Tensor, Tensor]:
    """Images (count, 1, 4, 4) in [low, high] and gradients of the same shape."""
    images = torch.rand(count, 1, 4, 4, generator=generator("images"))
    return low + (high - low) * images, normal_like(images, "gradients")


def normal_like(images: Tensor, purpose: str) -> Tensor:
    return torch.randn(images.shape, generator=generator(purpose))


def checks(model: nn.Module, threat: Threat = LINF, count: int = 100, steps: int = 10):
    digits = trained().first(count)
    return gradient_checks(
        model.eval(),
        digits.images,
        digits.labels,
        threat,
        keys=digits.keys,
        steps=steps,
        relative_step_size=0.25,
    )


# --- fosc -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_fosc_is_the_papers_where_the_image_range_does_not_bind(norm, dual):
    threat = Threat(norm, 0.1)
    images, gradient = drawn(low=0.3, high=0.7)
    candidates = project(images + 0.05 * normal_like(images, "candidates"), images, threat)
    length = torch.linalg.vector_norm(gradient.flatten(1), ord=dual, dim=1)
    inner = ((candidates - images) * gradient).flatten(1).sum(1)
    expected = threat.epsilon * length - inner
    torch.testing.assert_close(fosc(candidates, gradient, images, threat), expected)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("epsilon", [0.1, 0.9, 3.0, 5.0])
def test_fosc_is_the_most_that_a_linear_loss_can_rise(norm, epsilon):
    """Against maximisers found otherwise: corners, or clip(x + t g) with t by bisection."""
    threat = Threat(norm, min(epsilon, 1) if norm == "linf" else epsilon)
    images, gradient = drawn()
    images[0] = 0  # every component at a bound
    gradient[1, 0, 0] = 0  # components that need not move
    if norm == "linf":
        best = project(images + 1e4 * gradient.sign(), images, threat)
    else:
        low, high = torch.zeros(len(images)), torch.full((len(images),), 1e6)
        for _ in range(100):
            t = (low + high) / 2
            inside = perturbation_norm(_along(images, gradient, t) - images, "l2") <= epsilon
            low, high = t.where(inside, low), high.where(inside, t)
        best = _along(images, gradient, low)
    rise = ((best - images) * gradient).flatten(1).sum(1)
    torch.testing.assert_close(fosc(images, gradient, images, threat), rise, rtol=1e-4, atol=1e-5)
    at_best = fosc(best, gradient, images, threat)
    torch.testing.assert_close(at_best, torch.zeros_like(rise), rtol=0, atol=1e-3)
    somewhere = project(images + normal_like(images, "candidates"), images, threat)
    assert (fosc(somewhere, gradient, images, threat) > at_best).all()


def _along(images: Tensor, gradient: Tensor, t: Tensor) -> Tensor:
    return (images + per_sample(t, gradient) * gradient).clamp(0, 1)


@pytest.mark.parametrize("threat", [LINF, L2])
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e30])
def test_fosc_is_proportional_to_the_gradient(threat, size):
    images, gradient = drawn()
    unit = fosc(images, gradient, images, threat)
    torch.testing.assert_close(fosc(images, size * gradient, images, threat), size * unit)


# --- gradient_checks --------------------------------------------------------------------------


@pytest.mark.parametrize("threat", [Threat("linf", 0.1), Threat("l2", 0.3)])
def test_linear_model_of_two_classes(threat):
    """One gradient direction everywhere: PGD ends at the exact maximiser."""
    model, (images, _) = linear(2), drawn(32, low=0.3, high=0.7)
    labels = model(images).argmax(1)
    keys = sample_keys(torch.arange(32), "gradients")
    found = gradient_checks(
        model, images, labels, threat, keys=keys, steps=60, relative_step_size=0.25
    )
    assert set(found) == NAMES and all(values.shape == (32,) for values in found.values())
    assert found["gradient_cosine"] == pytest.approx(1, abs=1e-5)
    assert found["fosc"] == pytest.approx(0, abs=2e-3)
    assert not found["zero_gradient"].any()
    assert found["fooled_at_large_epsilon"].all()


def test_sound_network():
    found = checks(trained().model)
    assert 0.2 < found["fooled"].mean() < 0.6
    assert found["gradient_cosine"].mean() > 0.9
    assert found["fosc"].mean() < 0.2 and (found["fosc"] >= 0).all()
    assert not found["zero_gradient"].any()
    assert found["fooled_at_large_epsilon"].all()


def test_fosc_falls_as_pgd_proceeds():
    model = trained().model
    falling = [checks(model, steps=steps)["fosc"].mean() for steps in (1, 3, 20)]
    assert falling[0] > falling[1] > falling[2]
    assert falling[2] < falling[0] / 2


@pytest.mark.parametrize("before", [torch.round, torch.detach], ids=["rounds", "cuts the graph"])
def test_model_without_gradients(before):
    found = checks(Changed(trained().model, before))
    assert found["zero_gradient"].all()
    assert torch.tensor(found["gradient_cosine"]).isnan().all()
    assert (found["fosc"] == 0).all()
    assert not found["fooled_at_large_epsilon"].all()


def test_saturated_model_has_zero_gradients_where_it_is_right():
    digits = trained().first(100)
    model = Changed(trained().model, scale=1000)
    wrong = (model(digits.images).argmax(1) != digits.labels).numpy()
    found = checks(model)
    assert found["zero_gradient"].sum() >= 0.9 * (~wrong).sum()
    assert not found["zero_gradient"][wrong].any()
    assert found["fooled"][wrong].all() and found["fooled_at_large_epsilon"][wrong].all()


def test_gradients_below_the_smallest_normal_number_count_as_zero():
    assert checks(Changed(trained().model, scale=1e-41))["zero_gradient"].all()
    small = checks(Changed(trained().model, scale=1e-30))
    assert not small["zero_gradient"].any()
    assert small["gradient_cosine"].min() > 0.5  # though squares of such gradients are 0


def test_shattered_gradients_disagree():
    shattering = Changed(trained().model, lambda images: images + 0.05 * torch.sin(200 * images))
    assert checks(shattering)["gradient_cosine"].mean() < 0.3


class Plateau(nn.Module):
    """The logit of class 1 falls with the brightness, and is flat below half of it."""

    def forward(self, images: Tensor) -> Tensor:
        rise = (images.flatten(1).mean(1, keepdim=True) - 0.5).relu()
        return torch.cat([torch.full_like(rise, -1), rise], 1)


def test_steps_without_gradient_do_not_count_in_the_cosine():
    """PGD goes down to the plateau, where the gradient ends."""
    images, labels = torch.full((2, 1, 4, 4), 0.6), torch.ones(2, dtype=torch.long)
    keys = sample_keys(torch.arange(2), "gradients")
    found = gradient_checks(
        Plateau().eval(), images, labels, LINF, keys=keys, steps=20, relative_step_size=0.25
    )
    assert found["gradient_cosine"] == pytest.approx(1, abs=1e-5)
    assert (found["fosc"] == 0).all() and not found["zero_gradient"].any()


@pytest.mark.parametrize("threat", [LINF, L2])
def test_independent_of_the_batch(threat):
    digits = trained().first(12)
    together = checks(digits.model, threat, count=12)
    for i in (0, 7):
        alone = gradient_checks(
            digits.model,
            digits.images[i : i + 1],
            digits.labels[i : i + 1],
            threat,
            keys=digits.keys[i : i + 1],
            steps=10,
            relative_step_size=0.25,
        )
        for name, values in alone.items():
            assert values[0] == pytest.approx(together[name][i], abs=2e-3), name


def test_everything_is_within_the_large_epsilon():
    images = trained().images
    assert everywhere(images, LINF) == Threat("linf", 1)
    assert everywhere(images, L2) == Threat("l2", math.sqrt(64))


def test_errors():
    digits = trained().first(4)
    model, images, labels, keys = digits
    common = {"steps": 2, "relative_step_size": 0.5}
    with pytest.raises(ValueError, match="keys"):
        gradient_checks(model, images, labels, LINF, keys=keys[:2], **common)
    with pytest.raises(ValueError, match="steps"):
        gradient_checks(model, images, labels, LINF, keys=keys, steps=0, relative_step_size=1)
    with pytest.raises(ValueError, match="outside"):
        gradient_checks(model, images + 1, labels, LINF, keys=keys, **common)
