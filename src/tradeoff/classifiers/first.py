"""The first of several networks that were trained together; the others only helped it to learn."""

from collections.abc import Sequence

from torch import Tensor, nn

from tradeoff.core.schema import Section


class Knobs(Section):
    """There is nothing to choose."""


class First(nn.Module):
    """Images (N, C, H, W) in [0, 1] to the first network's logits (N, classes)."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.networks[0](images)
        return logits


def build(
    networks: Sequence[nn.Module], knobs: Knobs, *, image: tuple[int, ...], seed: int
) -> nn.Module:
    return First(networks)
