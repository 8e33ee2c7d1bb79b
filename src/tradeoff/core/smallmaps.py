"""A 3x3 convolution that is one matrix product where its maps have at most four pixels.

The last layers of a network of small images see maps of 2x2 pixels or of one. There oneDNN
multiplies the padding too, and takes several times as long for the gradient by the weights as a
product of matrices does.
"""

from functools import lru_cache
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.eager import eagerly_on_cpu

PIXELS = 4  # n pixels that all join each other take n * n products in place of 9 * n


class Convolution3x3(nn.Conv2d):
    """An nn.Conv2d of 3x3 with a padding of 1; on tiny maps on a CPU the same up to rounding."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1, bias: bool = True) -> None:
        super().__init__(channels_in, channels, 3, stride, padding=1, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        height, width = features.shape[2:]
        if height * width > PIXELS or not eagerly_on_cpu(features):
            return super().forward(features)
        where = meetings(height, width, self.stride[0]).to(self.weight.dtype)
        down, across = where.shape[2:]
        # A row of the matrix: pixel and channel of the result; a column: those of the map.
        shares = (self.weight.flatten(2) @ where.flatten(1)).view(
            self.out_channels, self.in_channels, height * width, down * across
        )
        matrix = shares.permute(3, 0, 2, 1).flatten(0, 1).flatten(1)
        bias = None if self.bias is None else self.bias.expand(down * across, -1).flatten()
        result = F.linear(features.permute(0, 2, 3, 1).flatten(1), matrix, bias)
        return result.view(-1, down, across, self.out_channels).permute(0, 3, 1, 2)


@lru_cache
def meetings(height: int, width: int, stride: int) -> Tensor:
    """Through which place of the kernel a pixel of the map joins one of the result.

    Returns:
        1 where they meet, else 0: (9, pixels of the map, height and width of the result), places
        and pixels counted row by row.
    """
    rows, columns = range(0, height, stride), range(0, width, stride)
    meets = torch.zeros(3, 3, height, width, len(rows), len(columns))
    for (i, row), (j, column) in product(enumerate(rows), enumerate(columns)):
        for y, x in product(range(height), range(width)):
            if abs(y - row) <= 1 and abs(x - column) <= 1:
                meets[y - row + 1, x - column + 1, y, x, i, j] = 1
    return meets.view(9, height * width, len(rows), len(columns))
