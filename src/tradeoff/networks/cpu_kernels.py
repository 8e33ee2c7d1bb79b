"""Convolutions that compute faster on a CPU than oneDNN's: the same numbers up to rounding.

`networks.layouts.place` puts them in place of `nn.Conv2d` on a CPU, so that architectures are
written with torch's own layers. To a compiler they would be opaque; it sees the ordinary ones.
"""

from functools import lru_cache
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

PIXELS = 4  # n pixels that all join each other take n * n products in place of 9 * n


def use_cpu_kernels(model: nn.Module) -> None:
    """Let the convolutions of a model on a CPU compute in the ways of this module.

    Only their class changes: parameters, hooks and names stay as they are.
    """
    for module in model.modules():
        if type(module) is nn.Conv2d and TinyMapConvolution.takes(module):
            module.__class__ = TinyMapConvolution


def _eager_on_cpu(features: Tensor) -> bool:
    return features.device.type == "cpu" and not torch.compiler.is_compiling()


class TinyMapConvolution(nn.Conv2d):
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


class GreyConvolution(nn.Conv2d):
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
        if _eager_on_cpu(images) and not self.weight.requires_grad:
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
