"""JSMA on the probabilities that a model gives, softmax(f / T), in place of its logits.

On logits a temperature changes nothing: it divides both derivatives, whose product is compared. On
probabilities it does. Where softmax saturates they have no derivative in float32, and no component
looks salient; a network that was distilled at T is saturated nearly everywhere, which is why it
withstands this attack at T = 1 (Papernot et al. 2016) and not at its own T (Carlini & Wagner 2016).
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from tradeoff.attacks import jsma
from tradeoff.attacks.outcome import Adversarial
from tradeoff.core.schema import Positive, PositiveInt, Section


class Knobs(Section):
    """Those of `jsma`, and T."""

    theta: Annotated[Positive, Field(le=1)]
    gamma: Annotated[Positive, Field(le=1)]
    targets: PositiveInt | None
    temperature: Positive


class _Softened(nn.Module):
    def __init__(self, model: nn.Module, temperature: float) -> None:
        super().__init__()
        self.model, self.temperature = model, temperature

    def forward(self, images: Tensor) -> Tensor:
        return torch.softmax(self.model(images) / self.temperature, 1)


def jsma_softmax(
    model: nn.Module, images: Tensor, labels: Tensor, knobs: Knobs, *_unused: object
) -> Adversarial:
    """As `jsma.jsma`, which see."""
    same = jsma.Knobs.model_validate(knobs.model_dump(exclude={"temperature"}))
    return jsma.jsma(_Softened(model, knobs.temperature).eval(), images, labels, same)
