"""The second stage of a cascade (Wong et al. 2018, section 4): what the first cannot prove.

It is trained as the first, from its own first weights, on those training images alone at which the
network of the base `first` does not prove its prediction, be it right or wrong.
"""

from collections.abc import Mapping

import torch
from torch import nn

from tradeoff.certificates.outer_polytope import holds
from tradeoff.datasets.prepared import Subset
from tradeoff.defenses.outer_polytope import (
    CERTIFICATE,
    SELECT_BY,
    TRAINS_ON_BOUNDS,
    Knobs,
    training_loss,
)
from tradeoff.networks.threat import Threat

__all__ = [
    "CERTIFICATE",
    "SELECT_BY",
    "TRAINS_ON_BOUNDS",
    "Knobs",
    "training_loss",
    "training_set",
]

BASES = ("first",)
AT_ONCE = 20  # images whose bounds are computed together


class NothingLeft(Exception):
    """The first stage proves its prediction of every training image."""


@torch.no_grad()
def training_set(
    train: Subset, bases: Mapping[str, nn.Module], threat: Threat, knobs: Knobs
) -> Subset:
    """The images of which the first stage's prediction is not proved.

    Raises:
        NothingLeft: fewer than two are left, which no batch can be made of.
    """
    first = bases["first"]
    device = next(first.parameters()).device
    left = []
    for batch in torch.arange(len(train)).split(AT_ONCE):
        images = train.floats(train.pixels[batch]).to(device)
        held = holds(first, images, first(images).argmax(1), threat)
        left.append(batch[~held.cpu()])
    places = torch.cat(left)
    if len(places) < 2:
        raise NothingLeft("the first stage proves its prediction of all training images")
    return Subset(train.pixels[places], train.labels[places], train.white)
