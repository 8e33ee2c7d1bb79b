"""Layers that compute faster on a CPU than oneDNN's, or the same on every processor.

`networks.layouts.place` puts them in place of `nn.Conv2d` on a CPU, so that architectures are
written with torch's own layers. To a compiler they would be opaque; it sees the ordinary ones.
"""

from functools import lru_cache
from itertools import product as pairs
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tradeoff.networks.device import arithmetic_is_portable

PIXELS = 4  # n pixels that all join each other take n * n products in place of 9 * n


def use_cpu_kernels(model: nn.Module) -> None:
    """Let the layers of a model on a CPU compute in the ways of this module.

    Only their class changes: parameters, hooks and names stay as they are.
    """
    for module in model.modules():
        if type(module) is nn.Conv2d:
            if TinyMapConvolution.takes(module):
                module.__class__ = TinyMapConvolution
            elif arithmetic_is_portable() and ProductConvolution.takes(module):
                module.__class__ = ProductConvolution
        elif type(module) is nn.BatchNorm2d and arithmetic_is_portable():
            module.__class__ = AffineBatchNorm


def _eager_on_cpu(features: Tensor) -> bool:
    return features.device.type == "cpu" and not torch.compiler.is_compiling()


def product(left: Tensor, right: Tensor) -> Tensor:
    """The product of two matrices; where arithmetic is portable, NumPy's.

    MKL is as fast on every processor, or rounds alike on every one, but not both. NumPy's OpenBLAS
    takes the kernel that it is told by name.
    """
    return _Product.apply(left, right) if arithmetic_is_portable() else left @ right


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, left: Tensor, right: Tensor) -> Tensor:
        context.save_for_backward(left, right)
        result = left.new_empty(len(left), right.shape[1])
        np.dot(left.detach().numpy(), right.detach().numpy(), out=result.numpy())
        return result

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        left, right = context.saved_tensors
        by_left, by_right = context.needs_input_grad
        return (
            product(gradient, right.T) if by_left else None,
            product(left.T, gradient) if by_right else None,
        )


class ProductConvolution(nn.Conv2d):
    """A convolution that is one matrix product where arithmetic is to be portable.

    oneDNN and NNPACK, which torch would ask, choose their algorithms by the processor; a matrix
    product can be told not to (see `tradeoff.networks.arithmetic`). The images of the batch are the
    innermost dimension of all maps, so that a pixel's window is gathered in long runs, and
    neighbouring layers hand their maps on as they are.
    """

    @staticmethod
    def takes(convolution: nn.Conv2d) -> bool:
        """Whether the convolution is a plain one, of whatever kernel and stride."""
        return (
            convolution.dilation == (1, 1)
            and convolution.groups == 1
            and convolution.padding_mode == "zeros"
            and not isinstance(convolution.padding, str)
        )

    def forward(self, maps: Tensor) -> Tensor:
        if not (_eager_on_cpu(maps) and arithmetic_is_portable()):
            return super().forward(maps)
        windows = Windows.of(self, maps)
        columns = _Gather.apply(maps, windows)
        weight = self.weight.flatten(1)
        result = product(weight, columns)
        if self.bias is not None:
            result = result + self.bias[:, None]
        return result.view(self.out_channels, *windows.result, len(maps)).permute(3, 0, 1, 2)


class AffineBatchNorm(nn.BatchNorm2d):
    """BatchNorm that in eval mode is a scale and a shift where arithmetic is to be portable.

    For maps whose images are innermost torch takes the root of the variances with MKL, which rounds
    it by the processor.
    """

    def forward(self, maps: Tensor) -> Tensor:
        mean, variance = self.running_mean, self.running_var
        if self.training or mean is None or variance is None or not arithmetic_is_portable():
            return super().forward(maps)
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            scale = scale * self.weight
        shift = -mean * scale
        if self.affine:
            shift = shift + self.bias
        return torch.addcmul(shift[:, None, None], maps, scale[:, None, None])


class Windows(NamedTuple):
    """Which pixels of a map a convolution joins.

    Attributes:
        size: height and width of the map.
        result: height and width of what comes out.
    """

    size: tuple[int, int]
    result: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    @classmethod
    def of(cls, layer: nn.Conv2d, maps: Tensor) -> "Windows":
        """Those of a layer on maps (N, C, H, W)."""
        shape: Any = (tuple(maps.shape[2:]), layer.kernel_size, layer.stride, layer.padding)
        size, kernel, stride, padding = shape
        sides = zip(size, kernel, stride, padding, strict=True)
        result: Any = tuple(
            (side + 2 * edge - width) // step + 1 for side, width, step, edge in sides
        )
        return cls(size, result, kernel, stride, padding)

    def padded(self, like: Tensor, channels: int, count: int) -> tuple[Tensor, Tensor]:
        """Zeros (C, height, width, N) with room for the padding, and their part without it."""
        (height, width), (above, left) = self.size, self.padding
        whole = like.new_zeros(channels, height + 2 * above, width + 2 * left, count)
        return whole, whole[:, above : above + height, left : left + width]


class _Gather(torch.autograd.Function):
    """Every window of maps (N, C, H, W) as a column: (C kernel, positions N)."""

    @staticmethod
    def forward(context: Any, maps: Tensor, windows: Windows) -> Tensor:
        context.windows, (count, channels) = windows, maps.shape[:2]
        whole, inside = windows.padded(maps, channels, count)
        inside.copy_(maps.permute(1, 2, 3, 0))
        by_channel, by_row, by_column, _ = whole.stride()
        (down, across), (step_down, step_across) = windows.result, windows.stride
        seen = whole.as_strided(
            (channels, *windows.kernel, down, across, count),
            (by_channel, by_row, by_column, by_row * step_down, by_column * step_across, 1),
        )
        return seen.reshape(channels * prod(windows.kernel), down * across * count)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Scatter.apply(gradient, context.windows), None


class _Scatter(torch.autograd.Function):
    """The adjoint of `_Gather`: every column's numbers added to the pixels that they came from."""

    @staticmethod
    def forward(context: Any, columns: Tensor, windows: Windows) -> Tensor:
        context.windows = windows
        (down, across), (step_down, step_across) = windows.result, windows.stride
        places = prod(windows.kernel)
        shares = columns.view(len(columns) // places, places, down, across, -1)
        whole, inside = windows.padded(columns, len(shares), shares.shape[-1])
        for place in range(places):
            row, column = divmod(place, windows.kernel[1])
            rows = slice(row, row + step_down * down, step_down)
            whole[:, rows, slice(column, column + step_across * across, step_across)] += shares[
                :, place
            ]
        return inside.permute(3, 0, 1, 2)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Gather.apply(gradient, context.windows), None


class TinyMapConvolution(ProductConvolution):
    """A 3x3 convolution that is one matrix product where its maps have at most four pixels.

    The last layers of a network of small images see maps of 2x2 pixels or of one. There oneDNN
    multiplies the padding too, and takes several times as long for the gradient by the weights as
    a product of matrices does.
    """

    @staticmethod
    def takes(convolution: nn.Conv2d) -> bool:
        """Whether the convolution is a plain one of 3x3 with a padding of 1."""
        return (
            convolution.kernel_size == (3, 3)
            and convolution.padding == (1, 1)
            and convolution.stride[0] == convolution.stride[1]
            and convolution.dilation == (1, 1)
            and convolution.groups == 1
            and convolution.padding_mode == "zeros"
        )

    def forward(self, features: Tensor) -> Tensor:
        height, width = features.shape[2:]
        if height * width > PIXELS or not _eager_on_cpu(features):
            return super().forward(features)
        where = meetings(height, width, self.stride[0]).to(self.weight.dtype)
        down, across = where.shape[2:]
        # A row of the matrix: pixel and channel of the result; a column: those of the map.
        shares = product(self.weight.reshape(-1, 9), where.flatten(1)).view(
            self.out_channels, self.in_channels, height * width, down * across
        )
        matrix = shares.permute(3, 0, 2, 1).flatten(0, 1).flatten(1)
        result = product(features.permute(0, 2, 3, 1).flatten(1), matrix.T)
        if self.bias is not None:
            result = result + self.bias.repeat(down * across)
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
    for (i, row), (j, column) in pairs(enumerate(rows), enumerate(columns)):
        for y, x in pairs(range(height), range(width)):
            if abs(y - row) <= 1 and abs(x - column) <= 1:
                meets[y - row + 1, x - column + 1, y, x, i, j] = 1
    return meets.view(9, height * width, len(rows), len(columns))


class GreyConvolution(ProductConvolution):
    """A network's first convolution, of grey images, with a fast gradient by the images.

    oneDNN spends as much on the gradient by a single channel as on that of a whole layer. As one
    matrix product and a sum of shifted images it takes a fifth of the time.
    """

    @staticmethod
    def takes(convolution: nn.Conv2d) -> bool:
        """Whether the convolution is of this kind."""
        return (
            convolution.in_channels == 1
            and convolution.dilation == (1, 1)
            and convolution.padding_mode == "zeros"
            and not isinstance(convolution.padding, str)
        )

    @classmethod
    def of(cls, convolution: nn.Conv2d) -> "GreyConvolution":
        """The convolution, its parameters shared."""
        grey = cls(
            1,
            convolution.out_channels,
            convolution.kernel_size,  # type: ignore[arg-type]
            convolution.stride,  # type: ignore[arg-type]
            convolution.padding,  # type: ignore[arg-type]
            bias=False,
            device="meta",
        )
        grey.weight, grey.bias = convolution.weight, convolution.bias
        return grey.train(convolution.training)

    def forward(self, images: Tensor) -> Tensor:
        native = _eager_on_cpu(images) and not arithmetic_is_portable()
        if native and not self.weight.requires_grad:
            return _Convolve.apply(images, self)
        return super().forward(images)


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, images: Tensor, layer: GreyConvolution) -> Tensor:
        context.layer, context.shape = layer, images.shape
        return nn.Conv2d.forward(layer, images)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """What each output passes back through each place of the kernel, summed where it lands."""
        layer, (count, _, height, width) = context.layer, context.shape
        down, across = gradient.shape[2:]
        channels_last = gradient.permute(0, 2, 3, 1).reshape(-1, layer.out_channels)
        shares = (layer.weight.flatten(1).T @ channels_last.T).view(-1, count, down, across)
        (above, left), (step_down, step_across) = layer.padding, layer.stride
        total = gradient.new_zeros(count, height + 2 * above, width + 2 * left)
        for place, share in enumerate(shares):
            row, column = divmod(place, layer.kernel_size[1])
            rows = slice(row, row + step_down * down, step_down)
            columns = slice(column, column + step_across * across, step_across)
            total[:, rows, columns] += share
        return total[:, None, above : above + height, left : left + width], None
