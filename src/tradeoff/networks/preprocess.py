"""The first layer of every network: attacks and data stay in pixel space, [0, 1]."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Preprocess(nn.Module):
    """Pad images of 17 to 31 pixels with black to 32x32, then normalise each channel.

    Args:
        mean, std: one number per channel, of the training images; kept in the model's file.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        missing = 32 - images.shape[-1]
        if 0 < missing < 16:
            before, after = missing // 2, missing - missing // 2
            images = F.pad(images, (before, after, before, after))
        return (images - self.mean) / self.std


def scaled(channels: int, width: float) -> int:
    """Channels of a layer at a width multiplier, at least 1."""
    return max(1, round(channels * width))
