"""Decoupling direction and norm, DDN (Rony et al. 2019): an l2 attack of few steps."""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tradeoff.attacks.nearest import Nearest
from tradeoff.attacks.outcome import Adversarial, check_inputs
from tradeoff.core.schema import Fraction, Positive, PositiveInt, Section
from tradeoff.networks.threat import per_sample, perturbation_norm, steepest

FINAL_STEP_SIZE = 0.01  # the length of the last step, as a share of the first


class Knobs(Section):
    steps: PositiveInt  # forward and backward passes
    step_size: Positive  # alpha, l2 length of the first step; it shrinks to a hundredth
    initial_norm: Positive  # of the perturbation
    gamma: Annotated[Fraction, Field(gt=0, lt=1)]  # the share by which the norm changes


@torch.no_grad()
def ddn(
    model: nn.Module, images: Tensor, labels: Tensor, knobs: Knobs, *_unused: object
) -> Adversarial:
    """Follow the cross-entropy's gradient on a sphere that shrinks when fooled and else grows.

    Algorithm 1 of the paper, untargeted, without its quantisation. A sample that is misclassified
    as it is leaves at once.

    Returns:
        The nearest images that fool the model, and the forward passes.
    """
    check_inputs(model, images, labels)
    nearest = Nearest(images, labels, "l2")
    rows = torch.arange(len(images), device=images.device)
    current = images
    radius = images.new_full((len(images),), knobs.initial_norm)
    farthest = perturbation_norm(images.maximum(1 - images), "l2")
    for step in range(knobs.steps):
        logits, gradient = _ascent(model, current, labels[rows])
        fooled = nearest.update(rows, current, logits)
        if step == 0 and fooled.any():
            rows, current = rows[~fooled], current[~fooled]
            gradient, radius, fooled = gradient[~fooled], radius[~fooled], fooled[~fooled]
        if len(rows) == 0:
            break
        annealed = (1 + math.cos(math.pi * step / knobs.steps)) / 2
        length = knobs.step_size * (FINAL_STEP_SIZE + (1 - FINAL_STEP_SIZE) * annealed)
        radius = radius * torch.where(fooled, 1 - knobs.gamma, 1 + knobs.gamma)
        radius = radius.minimum(farthest[rows])
        moved = current + length * steepest(gradient, "l2") - images[rows]
        current = (images[rows] + per_sample(radius, moved) * steepest(moved, "l2")).clamp(0, 1)
    return nearest.adversarial()


def _ascent(model: nn.Module, candidates: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (N, classes) and the gradient (N, C, H, W) of the cross-entropy."""
    candidates = candidates.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(candidates)
        loss = F.cross_entropy(logits, labels, reduction="sum")
    return logits.detach(), torch.autograd.grad(loss, candidates)[0]
