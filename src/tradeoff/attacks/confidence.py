"""The attack of confidence-calibrated training (Stutz et al. 2020, section 4.2), for evaluation.

It makes the model as sure as it can of a wrong class, so that the image is not rejected: an attack
that stops at the first image that fools flatters a model that rejects what it is unsure of.
"""

import torch
from torch import Tensor, nn

from tradeoff.attacks.outcome import Adversarial, check_inputs
from tradeoff.attacks.pgd import keyed_start
from tradeoff.core.schema import Fraction, Positive, PositiveInt, Section
from tradeoff.networks.backtracking import Backtracking, ascend_rival, rival_log_probability
from tradeoff.networks.threat import Threat, per_sample


class Knobs(Section):
    steps: PositiveInt
    relative_step_size: Positive  # of the first step, over epsilon
    momentum: Fraction
    factor: Positive  # by which a step that is taken back shrinks the rate
    restarts: PositiveInt  # the first begins at the image, all others at random


def confidence(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    knobs: Knobs,
    threat: Threat,
    keys: Tensor,
) -> Adversarial:
    """Of each image the point that maximises max_{j != y} p_j(x'), of all restarts."""
    check_inputs(model, images, labels)
    rate = knobs.relative_step_size * threat.epsilon
    budget = Backtracking(knobs.steps, rate, knobs.momentum, knobs.factor)
    best, highest = images, torch.full_like(images[:, 0, 0, 0], -torch.inf)
    for restart in range(knobs.restarts):
        start = keyed_start(images, keys, threat, restart) if restart else images
        found = ascend_rival(model, images, labels, start, threat, budget)
        with torch.no_grad():
            values = rival_log_probability(model(found), labels)
        better = values > highest
        best = torch.where(per_sample(better, images), found, best)
        highest = torch.where(better, values, highest)
    passes = knobs.restarts * (knobs.steps + 2)
    return Adversarial(best, torch.full_like(labels, passes))
