"""Adversarial training with PGD (Madry et al. 2018, equation 2.1): min max CE(f(x + delta), y)."""

import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.schema import Section
from tradeoff.networks.ascent import ascend_cross_entropy
from tradeoff.training.contract import Loss, Step

SELECT_BY = "robust"


class Knobs(Section):
    """Adversarial training has no knobs: the inner attack is section `train.attack`."""


def adversarial_examples(images: Tensor, labels: Tensor, step: Step) -> Tensor:
    """PGD on the cross-entropy from a random point of the threat, (N, C, H, W)."""
    start = step.random_start(images)
    return ascend_cross_entropy(step.frozen, images, labels, start, step.inner)


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    adversarial = adversarial_examples(images, labels, step)
    loss = F.cross_entropy(model(adversarial), step.targets(labels))
    return Loss(loss, {"cross_entropy": loss.detach()})
