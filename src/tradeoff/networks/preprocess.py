"""The first layer of every network: attacks and data stay in pixel space, [0, 1]."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Sides of 17 to 31 pixels are padded to 32, where nothing else is said.
PADDED = (17, 32)


class Preprocess(nn.Module):
    """Pad images with black to the size that a network is made for, then normalise each channel.

    Args:
        mean, std: one number per channel, of the training images; kept in the model's file.
        padded: which sides are padded and to how many pixels: see `padded_side`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: list[float], std: list[float], padded: tuple[int, int] = PADDED
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))
        self.padded = padded

    def forward(self, images: Tensor) -> Tensor:
        down, across = (padded_side(side, self.padded) - side for side in images.shape[2:])
        if down or across:
            left, above = across // 2, down // 2
            images = F.pad(images, (left, across - left, above, down - above))
        return (images - self.mean) / self.std


def padded_side(side: int, padded: tuple[int, int]) -> int:
    """Height or width after padding: with (17, 32) a side of 17 to 31 pixels becomes 32."""
    least, size = padded
    return size if least <= side < size else side


def scaled(channels: int, width: float) -> int:
    """Channels of a layer at a width multiplier, at least 1."""
    return max(1, round(channels * width))
