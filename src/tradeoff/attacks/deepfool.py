"""DeepFool (Moosavi-Dezfooli et al. 2016): step to the nearest boundary of the linearised model."""

from typing import Literal

import torch
from torch import Tensor, nn

from tradeoff.attacks.nearest import Nearest
from tradeoff.attacks.outcome import Adversarial, check_inputs
from tradeoff.core.schema import NonNegative, PositiveInt, Section
from tradeoff.networks.losses import likeliest_others
from tradeoff.networks.threat import BallNorm, per_sample, steepest

# A step shorter than this could vanish in float32, and a sample on the boundary would stay there.
SHORTEST_STEP = 1e-4


class Knobs(Section):
    norm: Literal["l2", "linf"]
    steps: PositiveInt  # how often the model is linearised, at most
    candidates: PositiveInt | None  # how many other classes, the likeliest ones; null: all
    overshoot: NonNegative  # eta, the share by which the summed perturbation is lengthened


@torch.no_grad()
def deepfool(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    knobs: Knobs,
    *_unused: object,
) -> Adversarial:
    """Sum the smallest steps that would cross a linearised boundary, until one is crossed.

    Algorithm 2 of the paper; its equations 10 and 11 for other norms, with linf's dual, l1.

    Returns:
        The first image on each sample's way that fools the model, and the forward passes.
    """
    check_inputs(model, images, labels)
    nearest = Nearest(images, labels, knobs.norm)
    rows = torch.arange(len(images), device=images.device)
    logits = model(images)
    others = likeliest_others(logits, labels, knobs.candidates)
    rows = rows[~nearest.update(rows, images, logits)]
    perturbation = torch.zeros_like(images[rows])
    current = images[rows]
    for _ in range(knobs.steps):
        if len(rows) == 0:
            break
        gaps, gradients = linearise(model, current, labels[rows], others[rows])
        nearest.queries[rows] += 1
        perturbation = perturbation + step_to_boundary(gaps, gradients, knobs.norm)
        current = (images[rows] + (1 + knobs.overshoot) * perturbation).clamp(0, 1)
        # A pass of its own: cheaper than the gradients of all classes for samples that are done.
        open_ = ~nearest.update(rows, current, model(current))
        rows, current, perturbation = rows[open_], current[open_], perturbation[open_]
    return nearest.adversarial()


def linearise(
    model: nn.Module, current: Tensor, labels: Tensor, others: Tensor
) -> tuple[Tensor, Tensor]:
    """f' and w' of the paper: by how much each other class (M, K) trails the label, and the
    gradient (M, K, C, H, W) along which it catches up."""
    current = current.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(current)
        gaps = logits.gather(1, others) - logits.gather(1, labels[:, None])
        gradients = [
            torch.autograd.grad(gap.sum(), current, retain_graph=True)[0] for gap in gaps.unbind(1)
        ]
    return gaps.detach(), torch.stack(gradients, dim=1)


def step_to_boundary(gaps: Tensor, gradients: Tensor, norm: BallNorm) -> Tensor:
    """The smallest perturbation (M, C, H, W) that crosses a linearised boundary."""
    dual = torch.linalg.vector_norm(gradients.flatten(2), ord=2 if norm == "l2" else 1, dim=2)
    distance, nearest = (gaps.abs() / dual.clamp_min(1e-12)).min(dim=1)
    gradient = gradients[torch.arange(len(gradients), device=gradients.device), nearest]
    # No perturbation inside [0, 1] is longer than this: where gradients vanish, stay finite.
    longest = gradient[0].numel() ** 0.5 if norm == "l2" else 1.0
    distance = distance.clamp(SHORTEST_STEP, longest)
    return per_sample(distance, gradient) * steepest(gradient, norm)
