"""The first convolution of a network of grey images, with a fast gradient by the images.

On a CPU, oneDNN spends as much on the gradient by a single channel as on that of a whole layer.
As one matrix product and a sum of shifted images it takes a fifth of the time.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tradeoff.core.eager import eagerly_on_cpu


class GreyConvolution(nn.Conv2d):
    """An nn.Conv2d of one channel: the same numbers, up to rounding in the images' gradient."""

    @classmethod
    def takes(cls, convolution: nn.Conv2d) -> bool:
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
        if eagerly_on_cpu(images) and not self.weight.requires_grad:
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
