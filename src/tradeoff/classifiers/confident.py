"""The network itself, which may refuse an image: 1 - max_k p_k(x) says how unsure it is.

That detects errors of any network (Hendrycks & Gimpel 2017), and of one that was trained for it
adversarial examples (`defenses.ccat`; Stutz et al. 2020).
"""

from collections.abc import Sequence

from torch import Tensor, nn

from tradeoff.core.schema import Section


class Knobs(Section):
    """There is nothing to choose."""


class Confident(nn.Module):
    """Images (N, C, H, W) in [0, 1] to the network's logits (N, classes)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits

    def rejection_score(self, images: Tensor) -> Tensor:
        """How unsure the network is, (N,) in [0, 1 - 1 / classes]."""
        return 1 - self(images).softmax(1).amax(1)


def build(
    networks: Sequence[nn.Module], knobs: Knobs, *, image: tuple[int, ...], seed: int
) -> nn.Module:
    (network,) = networks
    return Confident(network)
