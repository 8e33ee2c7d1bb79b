"""Rotations and translations (Engstrom et al. 2019, section 3): the worst of several, or of a grid.

They lie outside every threat of a norm: `threat` is not asked. How accurate a model remains is its
spatial accuracy, to be told beside the adversarial one: either can be bought with the other
(Kamath et al. 2021).
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from tradeoff.attacks.outcome import Adversarial, Best, check_inputs
from tradeoff.core.schema import Fraction, Number, PositiveInt, Section
from tradeoff.networks.randomness import uniform
from tradeoff.networks.spatial import transform
from tradeoff.networks.threat import Threat

USES_GRADIENTS = False
IN_A_NORM = False  # what it makes is no perturbation of a norm: no radius judges it


class Knobs(Section):
    """How far an image is turned and moved at most, and what is tried: so many at random, or, with
    `tries` null, every combination of a grid."""

    degrees: Annotated[Number, Field(ge=0, le=180)]
    shift: Fraction  # as a share of the image's side
    tries: PositiveInt | None
    angles: PositiveInt = 31
    shifts: PositiveInt = 5  # in each of two directions


@torch.no_grad()
def spatial(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    knobs: Knobs,
    threat: Threat,
    keys: Tensor,
) -> Adversarial:
    """The first that fools the model, else the one of lowest margin; the image as it is, first."""
    check_inputs(model, images, labels)
    best, queries = Best(images), torch.zeros_like(labels)
    for number in range(1 + (knobs.tries or knobs.angles * knobs.shifts**2)):
        rows = torch.where(~best.fooled)[0]
        if len(rows) == 0:
            break
        turn, right, down = placement(knobs, keys[rows], number).to(images.dtype).unbind(1)
        moved = (knobs.degrees * turn, knobs.shift * right, knobs.shift * down)
        candidates = transform(images[rows], *moved).clamp(0, 1) if number else images[rows]
        best.update(candidates, model(candidates), labels[rows], at=rows)
        queries[rows] += 1
    return Adversarial(best.images, queries)


def placement(knobs: Knobs, keys: Tensor, number: int) -> Tensor:
    """What is tried as the `number`th, from 1: shares of the largest angle and of the largest shift
    to the right and down, (N, 3) in [-1, 1]."""
    if knobs.tries is not None:
        return 2 * uniform(keys, number, (3,)) - 1
    sides = [
        torch.linspace(-1, 1, count, device=keys.device)
        for count in (knobs.angles, knobs.shifts, knobs.shifts)
    ]
    return torch.cartesian_prod(*sides)[number - 1].expand(len(keys), 3)
