"""D-TRADES: lambda from its definition, and the gradient that does or does not flow through it."""

import math

import pytest
import torch
from torch import Tensor, nn

from tests import tiny
from tradeoff.defenses import dtrades
from tradeoff.defenses.trades import objective as trades_objective
from tradeoff.networks.ascent import ascend_divergence

ALPHA, BETA = 2.0, 3.0


def smooth_network() -> nn.Module:
    """Without kinks, in float64 and train mode: fit for numerical differentiation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = nn.Sequential(
            nn.Conv2d(1, 2, 3, stride=2, bias=False),
            nn.BatchNorm2d(2, track_running_stats=False),
            nn.Softplus(),
            nn.Flatten(),
            nn.Linear(2 * 2 * 2, 3),
        ).double()
    model[-1].weight.data *= 4  # predictions far enough apart for lambda to matter
    return model


def pair_of_images() -> tuple[Tensor, Tensor, Tensor]:
    draws = torch.Generator().manual_seed(4)
    images = torch.rand(6, 1, 5, 5, generator=draws, dtype=torch.float64)
    noise = 0.5 * torch.randn(images.shape, generator=draws, dtype=torch.float64)
    return images, (images + noise).clamp(0, 1), torch.arange(6) % 3


def total(model: nn.Module, differentiable: bool) -> Tensor:
    images, adversarial, labels = pair_of_images()
    clean = model(images)
    weight = dtrades.adaptive_weight(model, clean, adversarial, ALPHA, BETA, differentiable).weight
    return trades_objective(clean, model(adversarial), labels, weight)[0]


def flat_gradient(loss: Tensor, model: nn.Module) -> Tensor:
    parts = torch.autograd.grad(loss, list(model.parameters()))
    return torch.cat([part.flatten() for part in parts])


def analytic(model: nn.Module, differentiable: bool) -> Tensor:
    return flat_gradient(total(model, differentiable), model)


def numerical(model: nn.Module, width: float = 1e-5) -> Tensor:
    slopes = []
    for parameter in model.parameters():
        flat = parameter.data.view(-1)
        for place in range(len(flat)):
            value = flat[place].item()
            ends = []
            for shift in (width, -width):
                flat[place] = value + shift
                ends.append(total(model, differentiable=True).item())
            flat[place] = value
            slopes.append((ends[0] - ends[1]) / (2 * width))
    return torch.tensor(slopes, dtype=torch.float64)


def test_differentiable_gradient_equals_numerical_differentiation() -> None:
    model = smooth_network()
    torch.testing.assert_close(
        analytic(model, differentiable=True), numerical(model), rtol=1e-6, atol=1e-8
    )


def test_otherwise_lambda_is_a_constant_of_the_gradient() -> None:
    model = smooth_network()
    constant = analytic(model, differentiable=False)
    images, adversarial, labels = pair_of_images()
    clean = model(images)
    weight = dtrades.adaptive_weight(model, clean, adversarial, ALPHA, BETA).weight
    assert not weight.requires_grad
    loss = trades_objective(clean, model(adversarial), labels, weight)[0]
    torch.testing.assert_close(constant, flat_gradient(loss, model))
    through = analytic(model, differentiable=True)
    assert (through - constant).norm() > 0.1 * constant.norm()


@pytest.mark.parametrize("differentiable", [False, True])
def test_the_knob_decides_whether_a_gradient_flows_through_lambda(differentiable: bool) -> None:
    images, labels = tiny.batch()
    images, model = images.double(), tiny.network().double()
    knobs = dtrades.Knobs(alpha=ALPHA, beta=BETA, differentiable=differentiable)
    step = tiny.step(model)
    loss = dtrades.training_loss(model, images, labels, step, knobs)
    # The same loss, with the lambda that it reports as a constant.
    step = tiny.step(tiny.network().double())
    start, clean = step.gaussian_start(images), step.frozen(images).log_softmax(1)
    adversarial = ascend_divergence(step.frozen, images, clean, start, step.inner)
    constant, _ = trades_objective(
        model(images), model(adversarial), labels, loss.samples["lambda"]
    )
    torch.testing.assert_close(loss.total, constant)
    mine, theirs = flat_gradient(loss.total, model), flat_gradient(constant, model)
    assert torch.allclose(mine, theirs, rtol=1e-6, atol=1e-9) != differentiable


def test_lambda_is_alpha_entropy_plus_beta_sensitivity_of_each_image() -> None:
    model = tiny.calm(smooth_network())
    images, adversarial, _ = pair_of_images()
    together = dtrades.adaptive_weight(model, model(images), adversarial, ALPHA, BETA)
    torch.testing.assert_close(
        together.weight, ALPHA * together.entropy + BETA * together.sensitivity
    )
    p = model(images).softmax(1)
    torch.testing.assert_close(together.entropy, -(p * p.log()).sum(1))


def test_sensitivity_is_the_slope_along_the_steepest_direction() -> None:
    """Numerically: no direction of unit length raises the divergence faster, and one does so."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = tiny.calm(nn.Sequential(nn.Flatten(), nn.Linear(9, 3)).double())
    images = torch.rand(1, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    adversarial = images + 0.1
    measured = dtrades.adaptive_weight(model, model(images), adversarial, 0.0, 1.0)

    def divergence(points: Tensor) -> float:
        p, q = model(images).softmax(1), model(points).softmax(1)
        return float((p * (p / q).log()).sum())

    slopes = []
    for place in range(9):
        nudge = torch.zeros(9, dtype=torch.float64)
        nudge[place] = 1e-6
        ends = [divergence(adversarial + sign * nudge.view(1, 1, 3, 3)) for sign in (1, -1)]
        slopes.append((ends[0] - ends[1]) / 2e-6)
    assert measured.sensitivity.item() == pytest.approx(math.hypot(*slopes), rel=1e-6)


def test_the_most_uncertain_image_gets_alpha_times_ln_classes() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 10))
    nn.init.zeros_(model[1].weight)
    nn.init.zeros_(model[1].bias)
    images = torch.rand(2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    measured = dtrades.adaptive_weight(model, model(images), images, 6 / math.log(10), 1.0)
    torch.testing.assert_close(measured.weight, torch.full((2,), 6.0))


def test_weight_of_an_image_does_not_depend_on_its_batch() -> None:
    model = tiny.calm(tiny.network())
    images, _ = tiny.batch(8)
    adversarial = (images + 0.05).clamp(0, 1)
    together = dtrades.adaptive_weight(model, model(images), adversarial, ALPHA, BETA)
    alone = dtrades.adaptive_weight(model, model(images[2:3]), adversarial[2:3], ALPHA, BETA)
    torch.testing.assert_close(together.weight[2:3], alone.weight)
