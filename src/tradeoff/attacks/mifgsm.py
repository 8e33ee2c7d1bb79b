"""Momentum iterative FGSM (Dong et al. 2018, algorithm 1)."""

from typing import Literal

import torch
from torch import Tensor, nn

from tradeoff.attacks.outcome import Adversarial, check_inputs
from tradeoff.attacks.pgd import attack_loss, targets_of
from tradeoff.core.schema import NonNegative, PositiveInt, Section
from tradeoff.networks.ascent import input_gradient
from tradeoff.networks.threat import Threat, per_sample, step_up


class Knobs(Section):
    steps: PositiveInt
    momentum: NonNegative
    target: Literal["least_likely", "random"] | None = None  # towards it, not away from the label


def mifgsm(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    knobs: Knobs,
    threat: Threat,
    keys: Tensor | None = None,
) -> Adversarial:
    """g <- momentum g + grad / ||grad||_1, then a step of epsilon / steps along g's direction.

    All steps together reach the ball's surface, as in the paper. Only a random target needs keys.
    """
    check_inputs(model, images, labels)
    targets = targets_of(model, images, labels, knobs.target, keys)

    def objective(candidates: Tensor) -> Tensor:
        return attack_loss(model(candidates), labels, targets)

    current, velocity = images, torch.zeros_like(images)
    for _ in range(knobs.steps):
        gradient = input_gradient(objective, current)
        length = gradient.abs().flatten(1).sum(1).clamp_min(torch.finfo(gradient.dtype).tiny)
        velocity = knobs.momentum * velocity + gradient / per_sample(length, gradient)
        current = step_up(current, velocity, images, threat, threat.epsilon / knobs.steps)
    return Adversarial(current, torch.full_like(labels, knobs.steps))
