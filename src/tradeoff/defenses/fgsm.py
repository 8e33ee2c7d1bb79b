"""Adversarial training on one step (Goodfellow et al. 2015, section 6).

    L(x, y) = a CE(f(x), y) + (1 - a) CE(f(x'), y),    x' = clip(x + epsilon sign grad_x CE, 0, 1)

The step begins at the image itself and no gradient flows through it. Such training is prone to
catastrophic overfitting: from one epoch to the next the network learns to withstand the one step
and nothing else. Hence ONE_STEP: the history tells when (`training.validation.collapse`).
"""

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.schema import Fraction, Section
from tradeoff.networks.ascent import ascend_cross_entropy
from tradeoff.training.contract import Loss, Step

SELECT_BY = "robust"
ONE_STEP = True


class Knobs(Section):
    weight: Fraction  # of the clean images, a


def adversarial_examples(images: Tensor, labels: Tensor, step: Step) -> Tensor:
    """One step from the image to the surface of its ball, (N, C, H, W)."""
    one_step = replace(step.inner, steps=1, step_size=step.inner.threat.radius)
    return ascend_cross_entropy(step.frozen, images, labels, images, one_step)


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    adversarial = adversarial_examples(images, labels, step)
    targets = step.targets(labels)
    clean_loss = F.cross_entropy(model(images), targets)
    adversarial_loss = F.cross_entropy(model(adversarial), targets)
    parts = {"clean": clean_loss.detach(), "adversarial": adversarial_loss.detach()}
    return Loss(knobs.weight * clean_loss + (1 - knobs.weight) * adversarial_loss, parts)
