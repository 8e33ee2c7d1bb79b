"""Linear functionals of a layer's units on their way back through the relaxed network.

A unit of a convolution reads only a window of what is before it. So its functional is kept as a
patch with its place, not as a row over all units: on the small network of Wong & Kolter that is
256 numbers in place of 3136. Zero padding is what a patch reads beyond the edge.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from tradeoff.certificates.bounds.graph import Affine, Convolution, Identity, Scaling


@dataclass(frozen=True)
class Dense:
    """Functionals as rows over all units: `values` is (N or 1, functionals, *shape)."""

    values: Tensor

    def times(self, slope: Tensor) -> "Dense":
        """Back through a product with numbers (N, *shape) of the units."""
        return Dense(self.values * slope[:, None])

    def weighted(self, weights: Tensor, power: int = 1) -> Tensor:
        """sum_i |row_i|^power weights_i: (N, *shape) -> (N, functionals)."""
        rows = self.values.abs() if power == 1 else self.values.square()
        return (rows.flatten(2) @ weights.flatten(1)[:, :, None]).squeeze(2)

    def through(self, layer: Affine, shape: torch.Size) -> "Dense":
        """Back through an affine map from units of this shape."""
        count = self.values.shape[:2]
        return Dense(layer.transposed(self.values.flatten(0, 1), shape).unflatten(0, count))

    def plus(self, other: "Rows") -> "Dense":
        return Dense(self.values + other.dense().values)

    def dense(self) -> "Dense":
        return self


@dataclass(frozen=True)
class Patches:
    """Functionals of the units (channels, height, width) of a convolution, all over one map.

    Attributes:
        values: (N or 1, positions or 1, channels, C, side, side): the patch at a position, row by
            row, of the functionals of that position's units.
        grid: how many positions there are down and across.
        extent: height and width of the map.
        stride: by how many pixels neighbouring patches are apart.
        padding: by how many pixels the first one begins before the map.
        inside: whether what lies outside of the map is 0 already.
    """

    values: Tensor
    grid: tuple[int, int]
    extent: tuple[int, int]
    stride: int = 1
    padding: int = 0
    inside: bool = True

    @property
    def side(self) -> int:
        return self.values.shape[-1]

    def times(self, slope: Tensor) -> "Patches":
        size = (slope.shape[1], self.side, self.side)
        values = self.values * self._windows(slope).unflatten(2, size)[:, :, None]
        return replace(self, values=values, inside=True)

    def weighted(self, weights: Tensor, power: int = 1) -> Tensor:
        rows = self.values.abs() if power == 1 else self.values.square()
        found = rows.flatten(3) @ self._windows(weights)[..., None]  # (N, positions, channels, 1)
        return found.squeeze(3).transpose(1, 2).flatten(1)

    def through(self, layer: Affine, shape: torch.Size) -> "Rows":
        if isinstance(layer, Scaling | Identity):
            return replace(self, values=layer.transposed(self.values, shape))
        if not (isinstance(layer, Convolution) and layer.is_square):
            raise TypeError("patches pass through square convolutions only")
        if not self.inside:
            ones = self.values.new_ones(1, self.values.shape[3], *self.extent)
            return self.times(ones).through(layer, shape)
        stride = layer.stride[0]
        count = self.values.shape[:3]
        patches = F.conv_transpose2d(self.values.flatten(0, 2), layer.weight, stride=stride)
        wider = Patches(
            patches.unflatten(0, count),
            self.grid,
            (shape[-2], shape[-1]),
            self.stride * stride,
            self.padding * stride + layer.padding[0],
            inside=False,
        )
        return wider.dense() if wider.side**2 >= shape[-1] * shape[-2] else wider

    def plus(self, other: "Rows") -> "Rows":
        if isinstance(other, Dense):
            return other.plus(self)
        # Of two paths from the same units to the same map the strides are equal.
        before = max(self.padding, other.padding)
        after = max(rows.side - rows.padding for rows in (self, other))
        mine, theirs = (
            F.pad(
                rows.values,
                (before - rows.padding, after - rows.side + rows.padding) * 2,
            )
            for rows in (self, other)
        )
        inside = self.inside and other.inside
        return replace(self, values=mine + theirs, padding=before, inside=inside)

    def dense(self) -> Dense:
        """As rows over the whole map, in the order of the units."""
        count, _, channels, depth = self.values.shape[:4]
        high, wide = self.extent
        numbers = torch.arange(high * wide, device=self.values.device).view(1, 1, high, wide)
        # Where each number of a patch lies in the map; beyond its edge, one place after the last.
        places = self._windows(numbers.double() + 1).long() - 1
        places = places.where(places >= 0, high * wide)[:, :, None, None]
        values = self.values.flatten(4)
        size = (count, places.shape[1], channels, depth, self.side**2)
        rows = values.new_zeros(*size[:4], high * wide + 1)
        rows = rows.scatter(4, places.expand(size), values.expand(size))[..., :-1]
        return Dense(rows.transpose(1, 2).flatten(1, 2).unflatten(3, (high, wide)))

    def _windows(self, units: Tensor) -> Tensor:
        """The units (N, C, H, W) that each patch reads, (N, positions, C side side)."""
        ends = [
            (count - 1) * self.stride + self.side - self.padding - size
            for count, size in zip(self.grid, units.shape[-2:], strict=True)
        ]
        padded = F.pad(units, (self.padding, ends[1], self.padding, ends[0]))
        return F.unfold(padded, self.side, stride=self.stride).transpose(1, 2)


Rows = Dense | Patches


def units(shape: torch.Size, like: Tensor, patches: bool) -> Rows:
    """Every unit of a layer as a functional of its own, as patches of one pixel or as rows."""
    if patches:
        eye = torch.eye(shape[0], dtype=like.dtype, device=like.device)
        grid = (shape[1], shape[2])
        return Patches(eye[None, None, :, :, None, None], grid, grid)
    eye = torch.eye(shape.numel(), dtype=like.dtype, device=like.device)
    return Dense(eye.view(1, -1, *shape))
