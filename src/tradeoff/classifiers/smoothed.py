"""A network averaged over Gaussian noise (Cohen et al. 2019), with the same noise for every image.

    log(1/m sum_j p(x + sigma n_j)),    p the softmax of the network's logits

A classifier is a deterministic function of the image, so the m noises are drawn once, from the
cell's seed, and kept with the weights. Its gradient is the exact one of what is deployed: an attack
on it knows the noise. `certificates.smoothing` draws fresh noise instead, and counts votes.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.schema import Positive, PositiveInt, Section
from tradeoff.networks.randomness import generator


class Knobs(Section):
    sigma: Positive
    copies: PositiveInt


class Smoothed(nn.Module):
    """Images (N, C, H, W) in [0, 1] to logarithms of mean probabilities (N, classes)."""

    noise: Tensor

    def __init__(self, network: nn.Module, sigma: float, noise: Tensor) -> None:
        super().__init__()
        self.network, self.sigma = network, sigma
        self.register_buffer("noise", noise)

    def forward(self, images: Tensor) -> Tensor:
        copies = images[:, None] + self.sigma * self.noise  # not clipped, as in training
        logits = self.network(copies.flatten(0, 1)).unflatten(0, copies.shape[:2])
        return F.log_softmax(logits, -1).logsumexp(1) - math.log(len(self.noise))


def build(
    networks: Sequence[nn.Module], knobs: Knobs, *, image: tuple[int, ...], seed: int
) -> nn.Module:
    """The one network smoothed; its noise, (copies, C, H, W), is drawn from the seed."""
    (network,) = networks
    noise = torch.randn(knobs.copies, *image, generator=generator("smoothed", seed))
    return Smoothed(network, knobs.sigma, noise)
