"""Images turned and moved, as a camera may see them: for training and for attacks."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def rotate(images: Tensor, degrees: Tensor, interpolation: str = "bilinear") -> Tensor:
    """Images (N, C, H, W) turned counter-clockwise about their centres by degrees (N,)."""
    still = torch.zeros_like(degrees)
    return transform(images, degrees, still, still, interpolation)


def transform(
    images: Tensor, degrees: Tensor, right: Tensor, down: Tensor, interpolation: str = "bilinear"
) -> Tensor:
    """Images turned counter-clockwise about their centres, then moved; black where nothing was.

    Args:
        images: (N, C, H, W).
        degrees: (N,); right, down: (N,), as shares of the width and of the height.
        interpolation: bilinear | nearest.
    """
    height, width = images.shape[2:]
    angle = degrees * (math.pi / 180)
    cosine, sine = angle.cos(), angle.sin()
    # Where in the input each output pixel is taken from, in units of half a width and a height.
    up, left = -sine * height / width, sine * width / height
    across, along = -2 * right, -2 * down
    rows = [
        *(cosine, up, cosine * across + up * along),
        *(left, cosine, left * across + cosine * along),
    ]
    maps = torch.stack(rows, 1).view(-1, 2, 3)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, interpolation, "zeros", align_corners=False)
