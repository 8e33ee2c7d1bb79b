"""The labeller of robust self-training (Carmon et al. 2019): standard training on few labels.

It sees the first images of the training set alone, a share `labelled` of them, which is
class-balanced; the labels of the others are hidden from it. Its accuracy on validation is that of
the labels that `rst` learns.
"""

from collections.abc import Mapping
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tradeoff.core.schema import Fraction, Section
from tradeoff.datasets.prepared import Subset
from tradeoff.networks.threat import Threat
from tradeoff.training.contract import Loss, Step

SELECT_BY = "natural"


class Knobs(Section):
    labelled: Annotated[Fraction, Field(gt=0, lt=1)]


def training_set(
    train: Subset, bases: Mapping[str, nn.Module], threat: Threat, knobs: Knobs
) -> Subset:
    """The labelled images, repeated until an epoch has as many steps as any other defense's."""
    places = torch.arange(len(train)) % max(1, round(knobs.labelled * len(train)))
    return Subset(train.pixels[places], train.labels[places], train.white)


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    loss = F.cross_entropy(model(images), step.targets(labels))
    return Loss(loss, {"cross_entropy": loss.detach()})
