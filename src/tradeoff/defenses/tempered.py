"""The teacher of defensive distillation (Papernot et al. 2016): CE(f(x) / T, y), hard labels."""

import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.schema import Positive, Section
from tradeoff.training.contract import Loss, Step

SELECT_BY = "natural"


class Knobs(Section):
    temperature: Positive


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    # In float32 whatever the logits are: at a high temperature the loss differs from ln C in its
    # last digits only.
    loss = F.cross_entropy(model(images).float() / knobs.temperature, step.targets(labels))
    return Loss(loss, {"cross_entropy": loss.detach()})
