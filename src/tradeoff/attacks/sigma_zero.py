"""Sigma-zero (Cina et al. 2025): an l0 attack by gradients of a smooth stand-in for l0."""

import math

import torch
from torch import Tensor, nn

from tradeoff.attacks.nearest import Nearest
from tradeoff.attacks.outcome import Adversarial, check_inputs
from tradeoff.core.schema import Fraction, Positive, PositiveInt, Section
from tradeoff.networks.elementary import sqrt
from tradeoff.networks.losses import margin
from tradeoff.networks.threat import per_sample

FINAL_STEP_SIZE = 0.1  # the last step size, as a share of the first


class Knobs(Section):
    steps: PositiveInt  # forward and backward passes
    step_size: Positive  # eta, of Adam; it shrinks to a tenth
    sigma: Positive  # how smooth: a component counts in full from about sqrt(sigma) on
    threshold: Fraction  # tau at first: a smaller component is set to 0
    threshold_step: Fraction  # by which share of eta tau rises when fooled, and else falls


@torch.no_grad()
def sigma_zero(
    model: nn.Module, images: Tensor, labels: Tensor, knobs: Knobs, *_unused: object
) -> Adversarial:
    """Minimise max(margin, 0) + 1/d sum_j delta_j^2 / (delta_j^2 + sigma), and prune.

    Algorithm 1 of the paper, with Adam as in the authors' code: the gradient is scaled to a largest
    component of 1, and after each step components below tau are set to 0. A sample leaves where no
    nearer image can exist: misclassified as it is, or at one component.

    Returns:
        The images with the fewest changed components that fool the model, and the forward passes.
    """
    check_inputs(model, images, labels)
    nearest = Nearest(images, labels, "l0")
    rows = torch.arange(len(images), device=images.device)
    delta, first, second = (torch.zeros_like(images) for _ in range(3))
    threshold = images.new_full((len(images),), knobs.threshold)
    for step in range(1, knobs.steps + 1):
        candidates = images[rows] + delta
        logits, gradient = _descent(model, candidates, delta, labels[rows], knobs.sigma)
        fooled = nearest.update(rows, candidates, logits)
        open_ = nearest.distance[rows] > 1
        if not open_.all():
            rows, delta, first, second = rows[open_], delta[open_], first[open_], second[open_]
            gradient, fooled, threshold = gradient[open_], fooled[open_], threshold[open_]
        if len(rows) == 0:
            break
        annealed = (1 + math.cos(math.pi * (step - 1) / knobs.steps)) / 2
        size = knobs.step_size * (FINAL_STEP_SIZE + (1 - FINAL_STEP_SIZE) * annealed)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient.square()
        scale = sqrt(second / (1 - 0.999**step)) + 1e-8
        delta = delta - size * first / (1 - 0.9**step) / scale
        delta = (images[rows] + delta).clamp(0, 1) - images[rows]
        change = knobs.threshold_step * size
        threshold = (threshold + torch.where(fooled, change, -change)).clamp(0, 1)
        delta = delta * (delta.abs() > per_sample(threshold, delta))
    return nearest.adversarial()


def _descent(
    model: nn.Module, candidates: Tensor, delta: Tensor, labels: Tensor, sigma: float
) -> tuple[Tensor, Tensor]:
    """Logits (N, classes) and the loss's gradient (N, C, H, W), its largest component 1."""
    candidates = candidates.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(candidates)
        total = margin(logits, labels).clamp_min(0).sum()
    gradient = torch.autograd.grad(total, candidates)[0]
    smooth = 2 * sigma * delta / (delta.square() + sigma).square() / delta[0].numel()
    gradient = gradient + smooth
    largest = gradient.abs().flatten(1).amax(1).clamp_min(1e-12)
    return logits.detach(), gradient / per_sample(largest, gradient)
