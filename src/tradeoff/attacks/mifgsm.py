"""Momentum iterative FGSM (Dong et al. 2018, algorithm 1)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.attacks.outcome import Attempt, check_inputs
from tradeoff.core.schema import NonNegative, PositiveInt, Section
from tradeoff.networks.ascent import input_gradient
from tradeoff.networks.threat import Threat, per_sample, step_up


class Knobs(Section):
    steps: PositiveInt
    momentum: NonNegative


def mifgsm(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    *,
    steps: int = 10,
    momentum: float = 1.0,
) -> Attempt:
    """g <- momentum g + grad / ||grad||_1, then a step of epsilon / steps along g's direction.

    The steps together reach the ball's surface, as the paper has it. No randomness.
    """
    check_inputs(model, images, labels)

    def objective(candidates: Tensor) -> Tensor:
        return F.cross_entropy(model(candidates), labels, reduction="none")

    current, velocity = images, torch.zeros_like(images)
    for _ in range(steps):
        gradient = input_gradient(objective, current)
        length = gradient.abs().flatten(1).sum(1).clamp_min(torch.finfo(gradient.dtype).tiny)
        velocity = momentum * velocity + gradient / per_sample(length, gradient)
        current = step_up(current, velocity, images, threat, threat.epsilon / steps)
    return Attempt(current, torch.full_like(labels, steps))
