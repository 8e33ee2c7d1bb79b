"""Fast Adaptive Boundary attack (Croce & Hein 2020, "Minimally distorted adversarial examples").

Projects the current point and the image on a linear model of the decision boundary, mixes both
with a bias towards the image, and steps back towards the image after each adversarial point.
AutoAttack stops it at the threat's epsilon by the knob `enough`.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from tradeoff.attacks.nearest import Nearest
from tradeoff.attacks.outcome import Adversarial, batched_logits, check_inputs, is_fooled
from tradeoff.core.schema import NonNegative, PositiveInt, Section
from tradeoff.networks.losses import likeliest_others, resolution
from tradeoff.networks.randomness import normal, sample_keys, uniform
from tradeoff.networks.threat import BallNorm, per_sample, perturbation_norm, steepest

ALPHA_MAX = 0.1  # the largest bias towards the image (equation 9)
ETA = 1.05  # extrapolation beyond the boundary
BETA = 0.9  # how far from the image to go on after an adversarial point
ANY_TARGET = -1
TINY = 1e-12


class Knobs(Section):
    norm: Literal["linf", "l2"]
    targets: PositiveInt | None  # a run for each of so many likely classes; null: one, to any class
    steps: PositiveInt  # each takes one gradient with targets, without them one for each class
    restarts: PositiveInt  # the first run begins at the image
    enough: NonNegative  # a sample leaves as soon as it is fooled at this distance or nearer
    # Restarts begin within half of it, or of the distance reached so far if that is less.
    start_radius: NonNegative


def fab(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    knobs: Knobs,
    _threat: object,
    keys: Tensor,
    *,
    batch_size: int = 512,
) -> Adversarial:
    """The nearest image that fools the model, towards the nearest boundary or towards each target.

    All runs of a sample share a batch as far as `batch_size` allows.

    Args:
        batch_size: the most images, targets included, that go through the model at once.

    Returns:
        The nearest image that fools the model, else the clean image, and the forward passes.

    Raises:
        ValueError: unsuitable inputs (`check_inputs`).
    """
    check_inputs(model, images, labels)
    logits = batched_logits(model, images, batch_size)
    anywhere = torch.full_like(labels, ANY_TARGET)[:, None]
    targets = knobs.targets
    aims = anywhere if targets is None else likeliest_others(logits, labels, targets)
    method = _Method(model, knobs)
    nearest = Nearest(images, labels, knobs.norm)
    nearest.update(torch.arange(len(labels), device=labels.device), images, logits)
    for restart in range(knobs.restarts):
        radius = nearest.distance.clamp_max(knobs.start_radius) / 2
        attacked = (nearest.distance > knobs.enough).nonzero().squeeze(1)
        sample = attacked.repeat(aims.shape[1])
        column = torch.arange(aims.shape[1], device=sample.device)
        column = column.repeat_interleave(len(attacked))
        while len(sample):
            now, rest = sample[:batch_size], slice(batch_size, None)
            runs = _Runs(
                now, images[now], labels[now], aims[now, column[:batch_size]],
                current=images[now],
            )  # fmt: skip
            if restart:
                runs = runs._replace(
                    current=_starts(
                        images[now], keys[now], column[:batch_size], restart, radius[now],
                        knobs.norm,
                    )
                )  # fmt: skip
            _approach(method, runs, nearest)
            sample, column = sample[rest], column[rest]
            open_ = nearest.distance[sample] > knobs.enough
            sample, column = sample[open_], column[open_]
    return nearest.adversarial()


def onto_plane(points: Tensor, normals: Tensor, offsets: Tensor, norm: BallNorm) -> Tensor:
    """The smallest change d of each point with normal.d = offset and point + d in [0, 1].

    Every component moves the way that helps, by min(t * speed, its room); normal.d is then
    concave and piecewise linear in t, and Newton's method from t = 0 rises to the root in a few
    exact steps, without the sort of the paper's section 2.2.

    Args:
        points: (N, D) in [0, 1].
        normals: (N, D).
        offsets: (N,).

    Returns:
        The changes, (N, D); where no point of the box reaches the plane, the nearest corner's.
    """
    smallest = torch.finfo(normals.dtype).tiny
    scale = normals.abs().amax(1).clamp_min(smallest)
    weights = normals.abs() / scale[:, None]
    goal = offsets.abs() / scale
    way = normals.sign() * offsets.sign()[:, None]
    room = torch.where(way > 0, 1 - points, points) * way.abs()
    speed = weights.sign() if norm == "linf" else weights
    gain, reached = weights * speed, weights * room
    arrival = room / speed.clamp_min(smallest)  # the time when a component's room is used up
    reachable = reached.sum(1) > goal
    time = torch.zeros_like(goal)
    for _ in range(points.shape[1]):
        free = (arrival - time[:, None]).sign_().clamp_min_(0)  # 0 or 1; booleans are slower
        slope = (gain * free).sum(1)
        ahead = (goal - (reached * (1 - free)).sum(1)) / slope.clamp_min(TINY)
        rising = reachable & (slope > 0) & (ahead > time * (1 + 1e-6))
        if not rising.any():
            break
        time = ahead.where(rising, time)
    time = time.where(reachable, torch.finfo(time.dtype).max)
    return way * (time[:, None] * speed).minimum(room)


class _Boundary(NamedTuple):
    """A linear model of a boundary at each point: f(x') = value + gradient.(x' - x)."""

    value: Tensor  # (R,)
    gradient: Tensor  # (R, C, H, W)


@dataclass(frozen=True)
class _Method:
    """What all runs of one attack share."""

    model: nn.Module
    knobs: Knobs

    def boundary(self, points: Tensor, labels: Tensor, targets: Tensor) -> _Boundary:
        """The boundary between label and target, or the nearest one, linearised at the points.

        It is where the label loses by what rounding may change, twice: on the boundary itself, no
        point fools, and from there nothing leads on.
        """
        points = points.detach().requires_grad_()
        with torch.enable_grad():
            logits = self.model(points)
            label = logits.gather(1, labels[:, None]) + 2 * resolution(logits.detach())[:, None]
            if (targets == ANY_TARGET).all():
                return self._nearest(points, logits - label, labels)
            value = (logits.gather(1, targets[:, None]) - label).squeeze(1)
            return _Boundary(value.detach(), torch.autograd.grad(value.sum(), points)[0])

    def _nearest(self, points: Tensor, differences: Tensor, labels: Tensor) -> _Boundary:
        """Equation 7: the class whose linearised boundary is nearest, by the dual norm."""
        nearest = torch.full_like(labels, math.inf, dtype=points.dtype)
        value, gradient = torch.zeros_like(nearest), torch.zeros_like(points)
        for number in range(differences.shape[1]):
            column = differences[:, number]
            slope = torch.autograd.grad(column.sum(), points, retain_graph=True)[0]
            order = 1 if self.knobs.norm == "linf" else 2
            length = torch.linalg.vector_norm(slope.flatten(1), ord=order, dim=1)
            distance = (column.detach().abs() / (length + TINY)).where(labels != number, math.inf)
            closer = distance < nearest
            nearest = distance.where(closer, nearest)
            value = column.detach().where(closer, value)
            gradient = slope.where(per_sample(closer, slope), gradient)
        return _Boundary(value, gradient)

    def step(self, current: Tensor, images: Tensor, boundary: _Boundary) -> Tensor:
        """Equations 8 to 10: both projections, extrapolated and mixed, clipped to [0, 1]."""
        count = len(current)
        normals, points = boundary.gradient.flatten(1), current.flatten(1)
        offsets = -boundary.value  # what normal.d has to be, from the current point
        centres = images.flatten(1)
        offsets_centre = offsets + (normals * (points - centres)).sum(1)
        changes = onto_plane(
            torch.cat([points, centres]),
            normals.repeat(2, 1),
            torch.cat([offsets, offsets_centre]),
            self.knobs.norm,
        ).view(2, *current.shape)
        lengths = perturbation_norm(changes.flatten(0, 1), self.knobs.norm).view(2, count)
        lengths = lengths.clamp_min(1e-8)
        bias = (lengths[0] / lengths.sum(0)).clamp_max(ALPHA_MAX)
        bias = per_sample(bias, current)
        from_current = current + ETA * changes[0]
        from_image = images + ETA * changes[1]
        return ((1 - bias) * from_current + bias * from_image).clamp(0, 1)


class _Runs(NamedTuple):
    """The runs still going, one per row: images (R, C, H, W), all else (R,)."""

    sample: Tensor
    images: Tensor
    labels: Tensor
    targets: Tensor
    current: Tensor


@torch.no_grad()
def _approach(method: _Method, runs: _Runs, nearest: Nearest) -> None:
    """Algorithm 1 for a batch of runs; what they find goes to `nearest`."""
    for _ in range(method.knobs.steps):
        boundary = method.boundary(runs.current, runs.labels, runs.targets)
        current = method.step(runs.current, runs.images, boundary)
        # The boundary took a pass as well.
        nearest.queries.index_add_(0, runs.sample, torch.ones_like(runs.sample))
        logits = method.model(current)
        nearest.update(runs.sample, current, logits)
        # A point that fools by rounding alone lies on the boundary, from where nothing leads on:
        # it is not kept, but the way goes back as from any beyond.
        fooled = is_fooled(logits, runs.labels)
        back = runs.images + BETA * (current - runs.images)
        runs = runs._replace(current=torch.where(per_sample(fooled, back), back, current))
        ended = nearest.distance[runs.sample] <= method.knobs.enough
        if ended.any():
            runs = _Runs(*(field[~ended] for field in runs))
            if len(runs.sample) == 0:
                return


def _starts(
    images: Tensor, keys: Tensor, column: Tensor, restart: int, radius: Tensor, norm: BallNorm
) -> Tensor:
    """Random points at the distance `radius` (R,), other for each column and restart of a key."""
    noise = torch.empty_like(images)
    for number in column.unique().tolist():
        rows = column == number
        run_keys, shape = sample_keys(keys[rows], restart, number), tuple(images.shape[1:])
        drawn = normal(run_keys, 0, shape) if norm == "l2" else 2 * uniform(run_keys, 0, shape) - 1
        noise[rows] = drawn.to(images.dtype)
    if norm == "linf":
        direction = noise / per_sample(perturbation_norm(noise, "linf"), noise)
    else:
        direction = steepest(noise, "l2")
    return (images + per_sample(radius, noise) * direction).clamp(0, 1)
