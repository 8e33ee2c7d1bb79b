"""Do the gradients that white-box attacks follow lead anywhere? Diagnostics of each sample.

An attack that fails may mean a robust model, or gradients that are useless (Athalye et al. 2018,
Carlini et al. 2019). What is measured here is judged in `masking`.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.attacks.outcome import check_inputs, is_fooled
from tradeoff.attacks.pgd import keyed_start
from tradeoff.attacks.suites.ledger import Array
from tradeoff.networks.elementary import sqrt
from tradeoff.networks.threat import Threat, per_sample, step_up

SMALLEST = torch.finfo(torch.float32).tiny  # below it, numbers lose digits and GPUs flush them


class _Point(NamedTuple):
    """An iterate of PGD: image and gradient of the cross-entropy (N, C, H, W), fooled (N,)."""

    images: Tensor
    gradient: Tensor
    fooled: Tensor


def gradient_checks(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    *,
    keys: Tensor,
    steps: int,
    relative_step_size: float,
) -> dict[str, Array]:
    """What PGD on the cross-entropy meets on its way, from one random start per sample.

    Costs 2 steps + 3 forward and backward passes per image. All images are one batch; results do
    not depend on what else is in it.

    Args:
        relative_step_size: step size over epsilon, also for the large epsilon.

    Returns:
        Numpy arrays (N,) by name:
        fooled: whether the clean image or an iterate is misclassified.
        fosc: first-order stationary condition at the last iterate, in nats (see `fosc`).
        gradient_cosine: mean cosine of the gradients at successive iterates, in [-1, 1]; NaN if
            none of them has two gradients that are not zero.
        zero_gradient: whether the gradient at the clean image is zero, or so small that
            float32 no longer holds it with all digits.
        fooled_at_large_epsilon: as `fooled`, with every image within reach (`everywhere`). The
            start is as near as before, so that it takes gradients to arrive.

    Raises:
        ValueError: unsuitable inputs (`check_inputs`), no keys for them, or steps < 1.
    """
    check_inputs(model, images, labels)
    if keys.shape != labels.shape or steps < 1:
        raise ValueError(f"keys are {tuple(keys.shape)} and steps {steps}; (N,) and >= 1 needed")
    clean = _point(model, images, labels)
    start = keyed_start(images, keys, threat)
    fooled, before = clean.fooled, None
    cosines = torch.zeros_like(images[:, 0, 0, 0])
    pairs = torch.zeros_like(cosines)
    for point in _ascent(model, images, labels, start, threat, steps, relative_step_size):
        fooled = fooled | point.fooled
        if before is not None:
            cosine = _cosine(before.gradient, point.gradient)
            cosines = cosines + cosine.nan_to_num()
            pairs = pairs + ~cosine.isnan()
        before = point
    assert before is not None
    wide = everywhere(images, threat)
    reached = clean.fooled
    for point in _ascent(model, images, labels, start, wide, steps, relative_step_size):
        reached = reached | point.fooled
    checks = {
        "fooled": fooled,
        "fosc": fosc(before.images, before.gradient, images, threat),
        "gradient_cosine": cosines / pairs,
        "zero_gradient": _largest(clean.gradient) < SMALLEST,
        "fooled_at_large_epsilon": reached,
    }
    return {name: values.cpu().numpy() for name, values in checks.items()}


def zero_gradients(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> float:
    """The share of images whose gradient is zero in the sense of `gradient_checks`."""
    zero = [
        _largest(_point(model, *batch).gradient) < SMALLEST
        for batch in zip(images.split(batch_size), labels.split(batch_size), strict=True)
    ]
    return float(torch.cat(zero).float().mean())


def fosc(candidates: Tensor, gradient: Tensor, images: Tensor, threat: Threat) -> Tensor:
    """First-order stationary condition at x' (Wang et al. 2019, equation 5), (N,), at least 0.

        c(x') = max over z allowed by the threat of <z - x', g>

    is what the loss may still rise, to first order, in nats for the cross-entropy; 0 where PGD
    has converged. For linf it is the paper's epsilon ||g||_1 - <x' - x, g>, for l2 the same with
    ||g||_2, wherever [0, 1] does not bind. The paper ignores that bound; then no point on a black
    background is ever stationary, as the ascent that is counted leads out of the image range.

    Args:
        candidates: x', (N, C, H, W), inside the threat.
        gradient: g, (N, C, H, W), of a loss at x'.
        images: x, (N, C, H, W), the centres of the balls.
    """
    if threat.norm == "linf":
        reach = torch.where(gradient > 0, images + threat.epsilon, images - threat.epsilon)
        best = reach.clamp(0, 1)
    else:
        best = _farthest_in_l2(gradient, images, threat.epsilon)
    return ((best - candidates) * gradient).flatten(1).sum(1).clamp_min(0)


def everywhere(images: Tensor, threat: Threat) -> Threat:
    """The threat of the same norm that allows every image: epsilon 1, or sqrt(C H W) for l2."""
    return Threat(threat.norm, 1.0 if threat.norm == "linf" else math.sqrt(images[0].numel()))


def _farthest_in_l2(gradient: Tensor, images: Tensor, epsilon: float) -> Tensor:
    """The point of [0, 1] within epsilon of each image that lies farthest along the gradient.

    By the optimality conditions it is clip(x + t g) with the t that uses epsilon up. Component j
    meets its bound at t_j = room_j / |g_j|; between two of these the length is known in closed
    form.
    """
    # Scaled, as the squares of a small gradient are 0 in float32; in float64 for the long sums.
    scaled = gradient.double() / per_sample(_largest(gradient).double().clamp_min(1e-300), gradient)
    speed = scaled.abs().flatten(1)
    room = torch.where(scaled > 0, 1 - images.double(), images.double()).flatten(1)
    meets = torch.where(speed > 0, room / speed, 0)
    order = meets.argsort(1)
    meets, speed_then = meets.gather(1, order), speed.gather(1, order)
    stopped = (room * (speed > 0)).gather(1, order).square().cumsum(1)
    moving = speed_then.square().flip(1).cumsum(1).flip(1)
    moving = torch.cat([moving[:, 1:], torch.zeros_like(moving[:, :1])], 1)
    within = stopped + meets.square() * moving <= epsilon**2
    # How many components have met their bound when epsilon is used up; 0: none has.
    count = within.sum(1, keepdim=True)
    none = torch.zeros_like(stopped[:, :1])
    stopped = torch.cat([none, stopped], 1).gather(1, count)
    moving = torch.cat([speed.square().sum(1, keepdim=True), moving], 1).gather(1, count)
    t = sqrt((epsilon**2 - stopped).clamp_min(0) / moving).where(moving > 0, math.inf)
    distance = torch.where(speed > 0, t * speed, 0).minimum(room)
    return images + (distance.view_as(images) * scaled.sign()).to(images.dtype)


def _ascent(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    start: Tensor,
    threat: Threat,
    steps: int,
    relative_step_size: float,
) -> Iterator[_Point]:
    """The start and every iterate of PGD, steps + 1 points; fooled samples go on."""
    point = _point(model, start, labels)
    yield point
    for _ in range(steps):
        size = relative_step_size * threat.epsilon
        point = _point(model, step_up(point.images, point.gradient, images, threat, size), labels)
        yield point


def _point(model: nn.Module, images: Tensor, labels: Tensor) -> _Point:
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(images)
        loss = F.cross_entropy(logits, labels, reduction="sum")
        # Where a model lets no gradient through it is zero; autograd would refuse to say so.
        loss = loss + 0 * images.sum()
    gradient = torch.autograd.grad(loss, images)[0]
    return _Point(images.detach(), gradient, is_fooled(logits.detach(), labels))


def _cosine(one: Tensor, other: Tensor) -> Tensor:
    """Cosine (N,) of two gradients; NaN where one of them is zero."""
    # Scaled by the largest component first: the square of a small gradient is 0 in float32.
    one, other = (g / per_sample(_largest(g), g) for g in (one, other))
    return F.cosine_similarity(one.flatten(1), other.flatten(1), dim=1)


def _largest(gradient: Tensor) -> Tensor:
    """The largest component by absolute value of each sample, (N, C, H, W) -> (N,)."""
    return gradient.abs().flatten(1).amax(1)
