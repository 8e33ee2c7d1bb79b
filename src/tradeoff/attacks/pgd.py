"""Projected gradient descent as an evaluation (Madry et al. 2018, section 2.1)."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.attacks.outcome import Attempt, Best, check_inputs
from tradeoff.core.schema import Positive, PositiveInt, Section
from tradeoff.networks.losses import margin
from tradeoff.networks.randomness import normal, uniform
from tradeoff.networks.threat import Threat, random_start, step_up


class Knobs(Section):
    loss: Literal["cross_entropy", "margin"]
    steps: PositiveInt
    relative_step_size: Positive
    restarts: PositiveInt


def pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    *,
    keys: Tensor,
    loss: str = "cross_entropy",
    steps: int = 20,
    relative_step_size: float = 0.25,
    restarts: int = 1,
) -> Attempt:
    """PGD as an evaluation: random starts, every iterate tried, fooled samples dropped at once.

    Args:
        loss: "cross_entropy", or "margin" for that of Carlini & Wagner (2017, section V.A, f_6),
            z_y - max_{j != y} z_j, which does not vanish where the model is certain. Their kappa,
            the margin from which it stops to fall, would change nothing: a fooled sample has left.
        relative_step_size: step size over epsilon.
    """
    check_inputs(model, images, labels)
    best = Best(images)
    queries = torch.zeros_like(labels)
    step_size = relative_step_size * threat.epsilon
    for restart in range(restarts):
        left = torch.where(~best.fooled)[0]
        current = keyed_start(images[left], keys[left], threat, restart)
        for step in range(steps + 1):
            if len(left) == 0:
                break
            logits, gradient = _logits_and_gradient(
                model, current, labels[left], loss, last=step == steps
            )
            queries[left] += 1
            best.update(current, logits, labels[left], at=left)
            robust = ~best.fooled[left]
            left, current = left[robust], current[robust]
            if gradient is not None:
                current = step_up(current, gradient[robust], images[left], threat, step_size)
    return Attempt(best.images, queries)


def keyed_start(images: Tensor, keys: Tensor, threat: Threat, restart: int = 0) -> Tensor:
    """A uniform random point of the threat (N, C, H, W) that belongs to each sample's key."""
    shape = tuple(images.shape[1:])
    if threat.norm == "linf":
        noise = 2 * uniform(keys, 2 * restart, shape) - 1
    else:
        noise = normal(keys, 2 * restart, shape)
    return random_start(images, noise, uniform(keys, 2 * restart + 1, ()), threat)


def _logits_and_gradient(
    model: nn.Module, points: Tensor, labels: Tensor, loss: str, last: bool
) -> tuple[Tensor, Tensor | None]:
    if last:
        with torch.no_grad():
            return model(points), None
    points = points.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(points)
        if loss == "margin":
            total = -margin(logits, labels).sum()
        else:
            total = F.cross_entropy(logits, labels, reduction="sum")
    return logits.detach(), torch.autograd.grad(total, points)[0]
