"""A cascade (Wong et al. 2018, section 4): the first network that proves its prediction decides.

Where none does, the last one. A network proves its prediction by the exact bounds of the outer
polytope around the image that it is given (corollary 2 of Wong & Kolter 2018). That says nothing of
the images around: they may be decided by another network. So what is published as the cascade's
robust error is no certificate of the cascade as one classifier, and attacks on it succeed where
every single proof is right (Mangal et al. 2023).
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from tradeoff.certificates.outer_polytope import holds
from tradeoff.core.schema import Positive, Section
from tradeoff.networks.threat import Threat

CODE = ("certificates/bounds/*.py", "certificates/ledger.py", "certificates/outer_polytope.py")


class Knobs(Section):
    norm: Literal["linf", "l2"]
    epsilon: Positive


class Cascaded(nn.Module):
    """Images (N, C, H, W) in [0, 1] to the deciding network's logits (N, classes)."""

    def __init__(self, networks: Sequence[nn.Module], threat: Threat) -> None:
        super().__init__()
        self.networks, self.threat = nn.ModuleList(networks), threat

    def forward(self, images: Tensor) -> Tensor:
        logits = torch.stack([network(images) for network in self.networks], 1)
        stage = self.stage(images)  # -1, of no network, is the last one's place as well
        return logits[torch.arange(len(images), device=images.device), stage]

    @torch.no_grad()
    def stage(self, images: Tensor) -> Tensor:
        """Which network decides, from 0, or -1 where none proves its prediction; (N,)."""
        found = torch.full((len(images),), -1, device=images.device)
        for number, network in enumerate(self.networks):
            (left,) = torch.where(found < 0)
            if len(left):
                prediction = network(images[left]).argmax(1)
                found[left[holds(network, images[left], prediction, self.threat)]] = number
        return found


def build(
    networks: Sequence[nn.Module], knobs: Knobs, *, image: tuple[int, ...], seed: int
) -> nn.Module:
    """The cascade of networks in their order."""
    return Cascaded(networks, Threat(knobs.norm, knobs.epsilon))
