"""The residual network of Wong et al. (2018) for CIFAR-10: four blocks, and no BatchNorm.

4 214 850 parameters for 32x32 pixels, 3 channels and 10 classes. Bounds can be computed of all of
it; in training they are meant to be estimated by projections.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.networks.preprocess import scaled

PADDED = (1, 8)  # its convolutions leave little of fewer pixels
TRAINS_ON_BOUNDS = True


class Block(nn.Module):
    """relu(skip(h) + conv2(relu(conv1(h)))), at half the resolution where `stride` is 2."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        kernel = 3 if stride == 1 else 4
        self.conv1 = nn.Conv2d(before, after, kernel, stride, 1)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1)
        self.skip = nn.Conv2d(before, after, stride, stride)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.skip(features) + self.conv2(F.relu(self.conv1(features))))


def build(image: tuple[int, int, int], classes: int, width: float) -> nn.Module:
    """The network after its preprocessing: normalised images (N, *image) to logits."""
    channels, *sides = image
    thin, middle, thick, hidden = (scaled(count, width) for count in (16, 32, 64, 1000))
    down, across = (side // 2 // 2 for side in sides)
    network = nn.Sequential(
        nn.Conv2d(channels, thin, 3, 1, 1),
        nn.ReLU(),
        Block(thin, thin, 1),
        Block(thin, thin, 1),
        Block(thin, middle, 2),
        Block(middle, thick, 2),
        nn.Flatten(),
        nn.Linear(thick * down * across, hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            high, wide = layer.kernel_size
            nn.init.normal_(layer.weight, 0, math.sqrt(2 / (high * wide * layer.out_channels)))
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return network
