"""PixelCNN (van den Oord et al. 2016): how likely a grey image is, one pixel after another.

An image is whole numbers 0 .. K - 1, its levels. Of each pixel, in reading order, the network gives
logits of its level from the pixels before it. Two stacks of convolutions see all of these: a
vertical one the rows above, a horizontal one also the pixels to the left.

    v <- v + conv(elu v)                       rows r - 1 and r, of what has seen rows above r alone
    h <- h + conv(elu h) + conv_1x1(elu v)     columns c - 1 and c

What is above and to the left of a pixel changes no more once it is reached. So `most_likely`, which
chooses one level after another, keeps what the layers gave there, and costs one pass in place of
one for each pixel.
"""

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PixelCnn(nn.Module):
    """Levels (N, 1, H, W), as floats, to the logits of each pixel's level, (N, K, H, W)."""

    def __init__(self, levels: int, width: int, layers: int) -> None:
        super().__init__()
        self.v0, self.h0 = nn.Conv2d(2, width, (2, 3)), nn.Conv2d(2, width, (1, 3))
        self.v = nn.ModuleList(nn.Conv2d(width, width, (2, 3)) for _ in range(layers))
        self.h = nn.ModuleList(nn.Conv2d(width, width, (1, 2)) for _ in range(layers))
        self.n = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(layers))
        self.out = nn.Conv2d(width, levels, 1)
        self.levels = levels

    def forward(self, levels: Tensor) -> Tensor:
        pixels = self.inputs(levels)
        v: Tensor = self.v0(F.pad(pixels, (1, 1, 2, -1)))
        h: Tensor = v + self.h0(F.pad(pixels, (3, -1)))
        for above, left, beside in zip(self.v, self.h, self.n, strict=True):
            v = v + above(F.pad(F.elu(v), (1, 1, 1, 0)))
            h = h + left(F.pad(F.elu(h), (1, 0))) + beside(F.elu(v))
        logits: Tensor = self.out(F.elu(h))
        return logits

    def inputs(self, levels: Tensor) -> Tensor:
        """Levels in [-1, 1], and ones by which the network tells the image from its padding."""
        scaled = 2 * levels / (self.levels - 1) - 1
        return torch.cat([scaled, torch.ones_like(scaled)], 1)

    @torch.no_grad()
    def most_likely(self, levels: Tensor, radius: Tensor) -> Tensor:
        """The image in which each pixel, in turn, has the most likely level near its own.

        Everything in float64: no rounding, which may depend on the batch, is to tip the balance.

        Args:
            levels: (N, 1, H, W) int64.
            radius: (N,) int64, how many levels a pixel may move.
        """
        exact, chosen = copy.deepcopy(self).double(), torch.zeros_like(levels)
        rows, columns = levels.shape[2:]
        nothing = exact.out.weight.new_zeros(len(levels), exact.out.in_channels, 1, 1)
        previous = [F.pad(nothing, (0, columns + 1))] * len(exact.v)  # of each layer the row above
        pixels = nothing.new_zeros(len(levels), 2, rows + 2, columns + 4)
        for row in range(rows):
            first = v = exact.v0(pixels[:, :, row : row + 2, 2:])
            besides = []
            for layer, (above, beside) in enumerate(zip(exact.v, exact.n, strict=True)):
                present = F.pad(F.elu(v), (1, 1))
                v = v + above(torch.cat([previous[layer], present], 2))
                previous[layer] = present
                besides.append(beside(F.elu(v)))
            before = [nothing] * len(exact.h)  # of each layer the column to the left
            for column in range(columns):
                here = slice(column, column + 1)
                h = first[..., here] + exact.h0(
                    pixels[:, :, row + 2 : row + 3, column : column + 3]
                )
                for layer, left in enumerate(exact.h):
                    present = F.elu(h)
                    h = h + left(torch.cat([before[layer], present], 3)) + besides[layer][..., here]
                    before[layer] = present
                logits = exact.out(F.elu(h))[:, :, 0, 0]
                own = levels[:, 0, row, column]
                chosen[:, 0, row, column] = best_level(logits, own, radius)
                pixel = exact.inputs(chosen[:, :, row : row + 1, here].double())
                pixels[:, :, row + 2, column + 3] = pixel[:, :, 0, 0]
        return chosen


def best_level(logits: Tensor, own: Tensor, radius: Tensor) -> Tensor:
    """Of the levels at most `radius` from a pixel's own the likeliest, the lowest of equal ones.

    Args:
        logits: (..., K); own and radius: (...), int64.
    """
    places = torch.arange(logits.shape[-1], device=logits.device)
    far = (places - own[..., None]).abs() > radius[..., None]
    return logits.masked_fill(far, -math.inf).argmax(-1)


def bits_per_dimension(log_likelihood: Tensor, pixels: int) -> Tensor:
    """How many bits a pixel takes on average, (N,), from log likelihoods in nats."""
    return -log_likelihood / (pixels * math.log(2))
