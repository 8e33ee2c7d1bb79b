"""Projected gradient descent (Madry et al. 2018, section 2.1), for training and evaluation."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.attempt import Attempt, Best, check_inputs
from tradeoff.core.fields import Positive, PositiveInt, Section
from tradeoff.core.losses import kl_divergence, margin
from tradeoff.core.randomness import normal, uniform
from tradeoff.core.threat import Threat, project, random_start, steepest

Objective = Callable[[Tensor], Tensor]


class Knobs(Section):
    loss: Literal["cross_entropy", "margin"]
    steps: PositiveInt
    relative_step_size: Positive
    restarts: PositiveInt


@dataclass(frozen=True)
class Search:
    """The inner problem of a training step: the threat, and the steps to search it with."""

    threat: Threat
    steps: int
    step_size: float


def ascend(
    objective: Objective, images: Tensor, start: Tensor, search: Search, precise_steps: int = 0
) -> Tensor:
    """Take projected steps that increase `objective`, from `start`.

    Args:
        objective: maps candidates (N, C, H, W) to one loss per sample (N,); samples must not
            influence each other, so the model is in eval mode.
        images: centres of the balls, (N, C, H, W) in [0, 1].
        start: where to begin, (N, C, H, W).
        precise_steps: how many of the first steps are not in bf16 even inside autocast.

    Returns:
        The last iterate, (N, C, H, W), inside the threat, without gradient.
    """
    current = start.detach()
    for number in range(search.steps):
        with full_precision(images) if number < precise_steps else nullcontext():
            direction = input_gradient(objective, current)
        current = step_up(current, direction, images, search.threat, search.step_size)
    return current


def step_up(
    current: Tensor, direction: Tensor, images: Tensor, threat: Threat, step_size: float
) -> Tensor:
    """One projected step of length `step_size` along the steepest direction of the norm."""
    return project(current + step_size * steepest(direction, threat.norm), images, threat)


def input_gradient(objective: Objective, candidates: Tensor) -> Tensor:
    """Gradient of each sample's objective by its own candidate, (N, C, H, W)."""
    candidates = candidates.detach().requires_grad_()
    with torch.enable_grad():
        total = objective(candidates).sum()
    return torch.autograd.grad(total, candidates)[0]


def ascend_cross_entropy(
    model: nn.Module, images: Tensor, labels: Tensor, start: Tensor, search: Search
) -> Tensor:
    """Examples that maximise CE(f(x'), y), the inner problem of AT, MART and FAAL."""

    def objective(candidates: Tensor) -> Tensor:
        return F.cross_entropy(model(candidates), labels, reduction="none")

    return ascend(objective, images, start, search)


def ascend_divergence(
    model: nn.Module,
    images: Tensor,
    clean_log_probabilities: Tensor,
    start: Tensor,
    search: Search,
) -> Tensor:
    """Examples that maximise KL(f(x) || f(x')), the inner problem of TRADES and D-TRADES."""

    def objective(candidates: Tensor) -> Tensor:
        return kl_divergence(clean_log_probabilities, model(candidates))

    # Beside x the divergence and its slope are nearly 0: what bf16 leaves of them is noise.
    return ascend(objective, images, start, search, precise_steps=1)


def full_precision(images: Tensor) -> torch.autocast:
    """A context in which nothing is cast to bf16, whatever is outside; TF32 stays if it is set."""
    return torch.autocast(images.device.type, enabled=False)


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
