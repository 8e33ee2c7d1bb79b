"""RST, robust self-training (Carmon et al. 2019): TRADES on images that a network has labelled.

Half of the images that it trains on have their labels, half those that the base `labeller` gives
them. The authors' unlabelled images, of 80 Million Tiny Images, are withdrawn; here they are
training images whose labels are hidden: a share `labelled` keeps them, and of the others a share
`unlabelled` is used. The smaller of both halves is repeated until it is as large as the other.
"""

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from tradeoff.core.schema import Fraction, NonNegative, Section
from tradeoff.datasets.prepared import Subset
from tradeoff.defenses.trades import SELECT_BY, training_loss
from tradeoff.networks.threat import Threat

__all__ = ["SELECT_BY", "training_loss"]

BASES = ("labeller",)
SHARED = ("labelled",)  # or the labeller would have learned what is hidden
AT_ONCE = 500  # images that are labelled together


class Knobs(Section):
    beta: NonNegative
    labelled: Annotated[Fraction, Field(gt=0, lt=1)]
    unlabelled: Annotated[Fraction, Field(gt=0)]


@torch.no_grad()
def pseudo_labels(labeller: nn.Module, images: Tensor) -> Tensor:
    """The labeller's classes, (N,)."""
    classes: Tensor = labeller(images).argmax(1)
    return classes


def training_set(
    train: Subset, bases: Mapping[str, nn.Module], threat: Threat, knobs: Knobs
) -> Subset:
    """As many images with their labels as with the labeller's."""
    labeller = bases["labeller"]
    device = next(labeller.parameters()).device
    known = round(knobs.labelled * len(train))
    hidden = max(1, round(knobs.unlabelled * (len(train) - known)))
    pixels = train.pixels[known : known + hidden]
    batches = (train.floats(part).to(device) for part in pixels.split(AT_ONCE))
    given = [pseudo_labels(labeller, batch).cpu() for batch in batches]
    numbers = torch.arange(max(known, hidden))
    places = torch.cat([numbers % known, known + numbers % hidden])
    labels = torch.cat([train.labels[:known], *given])
    return Subset(train.pixels[places], labels[places], train.white)
