"""Projected gradient descent as an evaluation (Madry et al. 2018, section 2.1)."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.attacks.outcome import Adversarial, Best, check_inputs
from tradeoff.core.schema import Positive, PositiveInt, Section
from tradeoff.networks.losses import margin
from tradeoff.networks.randomness import normal, uniform
from tradeoff.networks.threat import Threat, random_start, step_up


class Knobs(Section):
    """The budget of PGD.

    The loss "margin" is that of Carlini & Wagner (2017, section V.A, f_6), z_y - max_{j != y} z_j,
    which does not vanish where the model is certain. Their kappa, the margin from which it stops
    to fall, would change nothing here: a fooled sample has left.
    """

    loss: Literal["cross_entropy", "margin"]
    steps: PositiveInt
    relative_step_size: Positive  # step size over epsilon
    restarts: PositiveInt


def pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    knobs: Knobs,
    threat: Threat,
    keys: Tensor,
) -> Adversarial:
    """PGD from random starts; every iterate is tried, and a fooled sample leaves at once."""
    check_inputs(model, images, labels)
    best = Best(images)
    queries = torch.zeros_like(labels)
    step_size = knobs.relative_step_size * threat.epsilon
    for restart in range(knobs.restarts):
        rows = torch.where(~best.fooled)[0]  # the samples that are still attacked
        current = keyed_start(images[rows], keys[rows], threat, restart)
        for step in range(knobs.steps + 1):
            if len(rows) == 0:
                break
            logits, gradient = _logits_and_gradient(
                model, current, labels[rows], knobs.loss, last=step == knobs.steps
            )
            queries[rows] += 1
            best.update(current, logits, labels[rows], at=rows)
            robust = ~best.fooled[rows]
            rows, current = rows[robust], current[robust]
            if gradient is not None:
                current = step_up(current, gradient[robust], images[rows], threat, step_size)
    return Adversarial(best.images, queries)


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
