"""The network itself."""

from collections.abc import Sequence

from torch import nn

from tradeoff.core.schema import Section


class Knobs(Section):
    """A plain classifier has no knobs."""


def build(
    networks: Sequence[nn.Module], knobs: Knobs, *, image: tuple[int, ...], seed: int
) -> nn.Module:
    """The one network: images (N, C, H, W) in [0, 1] to logits."""
    (network,) = networks
    return network
