"""Standard training: cross-entropy on clean images. The control, with no defense at all."""

import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.schema import Section
from tradeoff.training.contract import Loss, Step

SELECT_BY = "natural"


class Knobs(Section):
    """Standard training has no knobs."""


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    loss = F.cross_entropy(model(images), step.targets(labels))
    return Loss(loss, {"cross_entropy": loss.detach()})
