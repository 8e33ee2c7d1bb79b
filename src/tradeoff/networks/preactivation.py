"""Residual networks whose BatchNorm and ReLU precede each convolution (He et al. 2016b).

PreAct-ResNets and WideResNets (Zagoruyko & Komodakis 2016) differ in depth and widths alone.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Conv2d(channels_in, channels, 1, stride, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        activated = F.relu(self.bn1(features), inplace=True)
        residual = self.conv2(F.relu(self.bn2(self.conv1(activated)), inplace=True))
        return residual + (features if self.shortcut is None else self.shortcut(activated))


class PreActivationNetwork(nn.Module):
    """A 3x3 stem, stages of blocks, the last BatchNorm and ReLU, the mean of each map, one layer.

    Args:
        stem: channels of the first convolution.
        widths: channels of each stage; all but the first halve the resolution.
        blocks: how many each stage has.
    """

    def __init__(
        self, channels: int, classes: int, stem: int, widths: Sequence[int], blocks: int
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, stem, 3, padding=1, bias=False)
        self.blocks = nn.Sequential()
        channels_in = stem
        for stage, width in enumerate(widths):
            for number in range(blocks):
                stride = 2 if stage > 0 and number == 0 else 1
                self.blocks.append(Block(channels_in, width, stride))
                channels_in = width
        self.bn = nn.BatchNorm2d(channels_in)
        self.fc = nn.Linear(channels_in, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.blocks(self.conv1(images))
        return self.fc(F.relu(self.bn(features), inplace=True).mean((2, 3)))
