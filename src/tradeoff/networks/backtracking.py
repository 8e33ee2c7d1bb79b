"""Gradient ascent with momentum that takes back a step which gains nothing (Stutz et al. 2020,
algorithm 2): the attack that confidence-calibrated training learns from and is judged by."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.networks.ascent import Objective, value_and_gradient
from tradeoff.networks.threat import Threat, per_sample, project, steepest


@dataclass(frozen=True)
class Backtracking:
    """The budget: `rate` is the first step's length, which shrinks by `factor` where a step is
    taken back."""

    steps: int
    rate: float
    momentum: float
    factor: float


class Iterate(NamedTuple):
    """Where an ascent is: images (N, C, H, W), what their objective is and the rate in force."""

    images: Tensor
    values: Tensor  # (N,)
    rates: Tensor  # (N,)


def backtracking_iterates(
    objective: Objective, images: Tensor, start: Tensor, threat: Threat, budget: Backtracking
) -> Iterator[Iterate]:
    """The start and the iterate after each step, `budget.steps` + 1 of them.

    Args:
        objective: as `ascend` takes it.
    """
    current = project(start, images, threat)
    values, gradient = value_and_gradient(objective, current)
    rates, velocity = torch.full_like(values, budget.rate), torch.zeros_like(images)
    yield Iterate(current, values, rates)
    for _ in range(budget.steps):
        direction = steepest(gradient, threat.norm)
        velocity = budget.momentum * velocity + (1 - budget.momentum) * direction
        moved = project(current + per_sample(rates, images) * velocity, images, threat)
        moved_values, moved_gradient = value_and_gradient(objective, moved)
        gains = moved_values >= values
        current = torch.where(per_sample(gains, images), moved, current)
        gradient = torch.where(per_sample(gains, images), moved_gradient, gradient)
        values = torch.where(gains, moved_values, values)
        rates = torch.where(gains, rates, (rates / budget.factor).clamp_min(1e-20))
        yield Iterate(current, values, rates)


def rival_log_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """log max_{j != y} p_j, (N, C), (N,) -> (N,): how sure a network is of the likeliest wrong
    class. The probability itself has the same maxima, but no gradient where it is nearly 0."""
    return F.log_softmax(logits, 1).scatter(1, labels[:, None], float("-inf")).amax(1)


def ascend_rival(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    start: Tensor,
    threat: Threat,
    budget: Backtracking,
) -> Tensor:
    """Examples that maximise max_{j != y} p_j(x'): of each image the best iterate, (N, C, H, W)."""

    def objective(candidates: Tensor) -> Tensor:
        return rival_log_probability(model(candidates), labels)

    best, highest = images, torch.full_like(images[:, 0, 0, 0], -torch.inf)
    for iterate in backtracking_iterates(objective, images, start, threat, budget):
        better = iterate.values > highest
        best = torch.where(per_sample(better, images), iterate.images, best)
        highest = torch.where(better, iterate.values, highest)
    return best
