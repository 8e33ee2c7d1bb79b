"""Robustness by data augmentation: several strong adversarial copies of each image.

    L(x, y) = (CE(f(x), y) + sum_k CE(f(x'_k), y)) / (K + 1)

The name stands for no paper. It is a survey's word for adversarial training with a stronger attack
and more examples, and what we mean by it is this: each of the K copies is PGD's from a random start
of its own, with several times the steps of `train.attack`, made anew in every step. Examples made
once, on a finished network, would not be adversarial for the one that is trained.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.schema import PositiveInt, Section
from tradeoff.defenses import at
from tradeoff.training.contract import Loss, Step

SELECT_BY = "robust"


class Knobs(Section):
    copies: PositiveInt  # K
    strength: PositiveInt  # PGD's steps over those of train.attack


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    stronger = replace(step, inner=replace(step.inner, steps=knobs.strength * step.inner.steps))
    copies = [at.adversarial_examples(images, labels, stronger) for _ in range(knobs.copies)]
    targets = step.targets(labels)
    losses = torch.stack([F.cross_entropy(model(batch), targets) for batch in (images, *copies)])
    parts = {"clean": losses[0].detach(), "adversarial": losses[1:].mean().detach()}
    return Loss(losses.mean(), parts)
