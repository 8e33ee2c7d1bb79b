"""A standard and a robust network mixed (Bai et al. 2023, "Mixing Classifiers", equation 4).

    log((1 - alpha) p_natural(x) + alpha p_robust(x)),    p the softmax of a network's logits

From alpha = 1/2 on the mixture keeps the robust network's class y wherever that network keeps it
with a margin of probabilities p_y - p_i of at least (1 - alpha) / alpha, whatever the other says.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.schema import Fraction, Section


class Knobs(Section):
    alpha: Fraction


def mix(natural_logits: Tensor, robust_logits: Tensor, alpha: float) -> Tensor:
    """Logarithms of the mixed probabilities, (N, classes), without a logarithm of 0."""
    if alpha in (0, 1):
        return F.log_softmax(robust_logits if alpha else natural_logits, 1)
    natural = F.log_softmax(natural_logits, 1) + math.log(1 - alpha)
    return torch.logaddexp(natural, F.log_softmax(robust_logits, 1) + math.log(alpha))


class Mixed(nn.Module):
    """Images (N, C, H, W) in [0, 1] to logarithms of mixed probabilities (N, classes)."""

    def __init__(self, natural: nn.Module, robust: nn.Module, alpha: float) -> None:
        super().__init__()
        self.natural, self.robust, self.alpha = natural, robust, alpha

    def forward(self, images: Tensor) -> Tensor:
        return mix(self.natural(images), self.robust(images), self.alpha)


def build(
    networks: Sequence[nn.Module], knobs: Knobs, *, image: tuple[int, ...], seed: int
) -> nn.Module:
    """The mixture of two networks, the natural one first."""
    natural, robust = networks
    return Mixed(natural, robust, knobs.alpha)
