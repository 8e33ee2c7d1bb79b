"""SuperDeepFool (Abdollahpour et al. 2024): DeepFool, brought to where the boundary is nearest."""

import torch
from torch import Tensor, nn

from tradeoff.attacks.deepfool import linearise, step_to_boundary
from tradeoff.attacks.nearest import Nearest
from tradeoff.attacks.outcome import Adversarial, check_inputs
from tradeoff.core.schema import NonNegative, PositiveInt, Section
from tradeoff.networks.losses import likeliest_others
from tradeoff.networks.threat import per_sample, steepest


class Knobs(Section):
    steps: PositiveInt  # projections
    inner_steps: PositiveInt  # of DeepFool before each, at most
    candidates: PositiveInt | None  # how many other classes, the likeliest ones; null: all
    overshoot: NonNegative  # the share by which the summed steps of DeepFool are lengthened
    halvings: PositiveInt  # of the way back to the image, at the end


@torch.no_grad()
def superdeepfool(
    model: nn.Module, images: Tensor, labels: Tensor, knobs: Knobs, *_unused: object
) -> Adversarial:
    """Cross the boundary by DeepFool, then project on the boundary's normal there, in turn.

    Algorithm 2 of the paper, SDF(infinity, 1), in l2: at the shortest perturbation, it is parallel
    to the boundary's normal. Where the authors stop at the first projection that fools, this goes
    on. A search along the line from the image to the nearest point ends it.

    Returns:
        The nearest images that fool the model, and the forward passes.
    """
    check_inputs(model, images, labels)
    nearest = Nearest(images, labels, "l2")
    rows = torch.arange(len(images), device=images.device)
    logits = model(images)
    others = likeliest_others(logits, labels, knobs.candidates)
    rows = rows[~nearest.update(rows, images, logits)]
    current, fooled = images[rows], torch.zeros_like(rows, dtype=torch.bool)
    for _ in range(knobs.steps if len(rows) else 0):
        current = _cross(model, nearest, rows, current, fooled, others, knobs)
        normal = steepest(_normal(model, nearest, rows, current), "l2")
        delta = current - images[rows]
        along = (delta * normal).flatten(1).sum(1)
        projected = images[rows] + per_sample(along, delta) * normal
        # Where gradients vanish there is no normal, and the point stays.
        current = projected.where(per_sample(along > 0, delta), current).clamp(0, 1)
        fooled = nearest.update(rows, current, model(current))
    _halve(model, nearest, rows, knobs.halvings)
    return nearest.adversarial()


def _cross(
    model: nn.Module,
    nearest: Nearest,
    rows: Tensor,
    start: Tensor,
    fooled: Tensor,
    others: Tensor,
    knobs: Knobs,
) -> Tensor:
    """Each sample's first point beyond the boundary on DeepFool's way from `start`."""
    current, walking = start.clone(), (~fooled).nonzero().squeeze(1)
    moved = torch.zeros_like(start)
    for _ in range(knobs.inner_steps if len(walking) else 0):
        at, point = rows[walking], current[walking]
        gaps, gradients = linearise(model, point, nearest.labels[at], others[at])
        nearest.queries[at] += 1
        moved[walking] += step_to_boundary(gaps, gradients, "l2")
        point = (start[walking] + (1 + knobs.overshoot) * moved[walking]).clamp(0, 1)
        current[walking] = point
        walking = walking[~nearest.update(at, point, model(point))]
        if len(walking) == 0:
            break
    return current


def _normal(model: nn.Module, nearest: Nearest, rows: Tensor, points: Tensor) -> Tensor:
    """The gradient (M, C, H, W) along which the likeliest other class gains on the label."""
    labels = nearest.labels[rows]
    points = points.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(points)
        other = likeliest_others(logits.detach(), labels, 1)
        gain = logits.gather(1, other) - logits.gather(1, labels[:, None])
        gradient = torch.autograd.grad(gain.sum(), points)[0]
    nearest.queries[rows] += 1
    return gradient


def _halve(model: nn.Module, nearest: Nearest, rows: Tensor, halvings: int) -> None:
    """Search the way from the image to its nearest point for one nearer yet, by bisection."""
    rows = rows[nearest.distance[rows].isfinite()]
    far = nearest.images[rows]
    low, high = torch.zeros_like(nearest.distance[rows]), torch.ones_like(nearest.distance[rows])
    for _ in range(halvings if len(rows) else 0):
        middle = (low + high) / 2
        clean = nearest.clean[rows]
        candidates = clean + per_sample(middle, far) * (far - clean)
        fooled = nearest.update(rows, candidates, model(candidates))
        low, high = middle.where(~fooled, low), middle.where(fooled, high)
