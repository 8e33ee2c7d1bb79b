"""Fast minimum-norm attack, FMN (Pintor et al. 2021)."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from tradeoff.attacks.nearest import Nearest
from tradeoff.attacks.outcome import Adversarial, check_inputs
from tradeoff.core.schema import Fraction, Positive, PositiveInt, Section
from tradeoff.networks.losses import margin
from tradeoff.networks.threat import Norm, per_sample, perturbation_norm, steepest

FINAL_GAMMA = 0.001


class Knobs(Section):
    norm: Literal["l0", "l2", "linf"]  # the distance that is minimised
    steps: PositiveInt  # forward and backward passes at most
    step_size: Positive  # alpha, l2 length of the first step; it shrinks to a hundredth
    # The share by which the radius changes at first; it shrinks to FINAL_GAMMA.
    gamma: Annotated[Fraction, Field(ge=0.001, lt=1)]


@torch.no_grad()
def fmn(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    knobs: Knobs,
    *_unused: object,
) -> Adversarial:
    """Follow the margin's gradient inside a ball that shrinks when fooled and grows when not.

    Algorithm 1 of Pintor et al. 2021, untargeted, started at the image itself.

    Returns:
        The nearest images that fool the model, and the forward passes. A sample stops early where
        no nearer one can exist: at distance 0, or at one component for l0.
    """
    check_inputs(model, images, labels)
    norm, steps, final_step_size = knobs.norm, knobs.steps, knobs.step_size / 100
    nearest = Nearest(images, labels, norm)
    least = 1.0 if norm == "l0" else 0.0
    rows = torch.arange(len(images), device=images.device)
    current = images
    radius = images.new_full((len(images),), 1.0 if norm == "l0" else torch.inf)
    for step in range(steps):
        annealed = (1 + math.cos(math.pi * step / steps)) / 2
        logits, ascent = _margin_ascent(model, current, labels[rows], temperature=annealed**4)
        fooled = nearest.update(rows, current, logits)
        margins = margin(logits, labels[rows])
        open_ = nearest.distance[rows] > least
        if not open_.any():
            break
        if not open_.all():
            rows, current, radius = rows[open_], current[open_], radius[open_]
            ascent, fooled, margins = ascent[open_], fooled[open_], margins[open_]

        rate = FINAL_GAMMA + (knobs.gamma - FINAL_GAMMA) * annealed
        best = nearest.distance[rows]
        clean = images[rows]
        if norm == "l0":
            radius = _next_count(radius, rate, fooled, best, clean[0].numel())
        else:
            length = perturbation_norm(current - clean, norm)
            to_boundary = length + margins.abs() / _dual_norm(ascent, norm).clamp_min(1e-12)
            radius = _next_radius(radius, rate, fooled, best, to_boundary)
            radius = radius.minimum(perturbation_norm(clean.maximum(1 - clean), norm))

        length_of_step = final_step_size + (knobs.step_size - final_step_size) * annealed
        # First [0, 1], then the ball: the other way round clipping shortens what the ball left,
        # and on images with many black pixels the radius stops growing before the boundary.
        delta = (current + length_of_step * steepest(ascent, "l2")).clamp(0, 1) - clean
        current = (clean + _onto_ball(delta, radius, norm)).clamp(0, 1)
    return nearest.adversarial()


def _next_radius(
    radius: Tensor, rate: float, fooled: Tensor, best: Tensor, to_boundary: Tensor
) -> Tensor:
    """Shrink where fooled, grow where fooled before; until then, reach for the boundary.

    Growing is the least in every case: a linear model's boundary would be met, never crossed.
    """
    grown = radius * (1 + rate)
    reaching = grown.where(grown.isfinite(), 0).maximum(to_boundary)
    grown = grown.where(best.isfinite(), reaching)
    return (radius * (1 - rate)).minimum(best).where(fooled, grown)


def _next_count(
    count: Tensor, rate: float, fooled: Tensor, best: Tensor, components: int
) -> Tensor:
    """The l0 radius changes by whole components, by one at least."""
    shrunk = (count - 1).minimum((count * (1 - rate)).floor()).minimum(best)
    grown = (count + 1).maximum((count * (1 + rate)).floor())
    return shrunk.where(fooled, grown).clamp(1, components)


def _onto_ball(delta: Tensor, radius: Tensor, norm: Norm) -> Tensor:
    """The perturbations of norm at most `radius` (N,) nearest to `delta` in l2."""
    limit = per_sample(radius, delta)
    if norm == "linf":
        return delta.clamp(-limit, limit)
    if norm == "l2":
        length = perturbation_norm(delta, "l2").clamp_min(1e-12)
        return delta * per_sample((radius / length).clamp_max(1), delta)
    order = delta.abs().flatten(1).argsort(dim=1, descending=True, stable=True)
    ranks = torch.arange(order.shape[1], device=delta.device)
    kept = torch.zeros_like(order, dtype=torch.bool)
    kept.scatter_(1, order, ranks < radius[:, None])
    return delta * kept.view_as(delta)


def _dual_norm(gradient: Tensor, norm: Norm) -> Tensor:
    """The norm (N,) by which a linear function grows per unit of `norm`."""
    return torch.linalg.vector_norm(gradient.flatten(1), ord=1 if norm == "linf" else 2, dim=1)


def _margin_ascent(
    model: nn.Module, candidates: Tensor, labels: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Logits (N, classes), and the gradient (N, C, H, W) along which the margin falls.

    The margin's best other class is softened, by logsumexp at this temperature > 0. At 1 this is
    the direction of the cross-entropy, which does not hop between classes; near 0 the margin's.
    """
    candidates = candidates.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(candidates)
        label = logits.gather(1, labels[:, None]).squeeze(1)
        others = logits.scatter(1, labels[:, None], -torch.inf)
        total = (temperature * torch.logsumexp(others / temperature, dim=1) - label).sum()
    return logits.detach(), torch.autograd.grad(total, candidates)[0]
