"""Layers that compute faster on a CPU than oneDNN's, or the same on every processor.

`networks.layouts.place` puts them in place of `nn.Conv2d` on a CPU, so that architectures are
written with torch's own layers. To a compiler they would be opaque; it sees the ordinary ones.
"""

from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tradeoff.networks.device import arithmetic_is_portable


def use_cpu_kernels(model: nn.Module) -> None:
    """Let the layers of a model on a CPU compute in the ways of this module.

    Only classes change, and hooks are added: parameters and names stay as they are.
    """
    portable = arithmetic_is_portable()
    for module in model.modules():
        if type(module) is nn.Conv2d and ProductConvolution.takes(module):
            grey = module.in_channels == 1
            module.__class__ = GreyConvolution if grey else ProductConvolution
        elif type(module) is nn.BatchNorm2d and portable:
            module.__class__ = ImagesInnermostNorm
        elif isinstance(module, nn.MaxPool2d) and portable:
            _exchange_images_and_channels(module)


def _exchange_images_and_channels(pool: nn.MaxPool2d) -> None:
    """Let a pool see maps whose images are innermost as channels-last ones, which it leaves so."""
    if _exchanged_again not in pool._forward_hooks.values():
        pool.register_forward_pre_hook(_exchanged)
        pool.register_forward_hook(_exchanged_again)


def _exchanged(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    return inputs[0].transpose(0, 1)


def _exchanged_again(_layer: nn.Module, _inputs: tuple[Tensor, ...], maps: Tensor) -> Tensor:
    return maps.transpose(0, 1)


def _eager_on_cpu(features: Tensor) -> bool:
    written_down = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined]
    return features.device.type == "cpu" and not written_down


def product(left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
    """The product of two matrices, without gradient; where arithmetic is portable, NumPy's.

    MKL is as fast on every processor, or rounds alike on every one, but not both. NumPy's OpenBLAS
    takes the kernel that it is told by name.
    """
    result = left.new_empty(len(left), right.shape[1]) if out is None else out
    left, right = left.detach(), right.detach()
    if arithmetic_is_portable():
        np.dot(left.numpy(), right.numpy(), out=result.numpy())
        return result
    return torch.mm(left, right, out=result)


class ProductConvolution(nn.Conv2d):
    """A convolution that is one matrix product where that is needed, or faster.

    It is needed where arithmetic is to be portable: oneDNN and NNPACK, which torch would ask,
    choose their algorithms by the processor; a matrix product can be told not to (see
    `tradeoff.networks.arithmetic`). It is faster where maps have few pixels, as in the last layers
    of a network of small images: oneDNN multiplies the padding too, and takes several times as long
    for the gradient by the weights.

    The images of the batch are the innermost dimension of all maps, so that a pixel's window is
    gathered in long runs, and neighbouring layers hand their maps on as they are.
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
        if not _eager_on_cpu(maps):
            return super().forward(maps)
        shape: Any = (tuple(maps.shape[2:]), self.kernel_size, self.stride, self.padding)
        windows = Windows(*shape)
        faster = windows.most_pixels_meet and not torch.is_autocast_enabled("cpu")
        if not (arithmetic_is_portable() or faster):
            return super().forward(maps)
        result = _Convolution.apply(maps, self.weight, None, windows)
        return result if self.bias is None else result.add_(self.bias[:, None, None])


class Windows(NamedTuple):
    """Which pixels of a map a convolution joins.

    Attributes:
        size: height and width of the map.
    """

    size: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    @property
    def result(self) -> tuple[int, int]:
        """Height and width of what comes out."""
        (height, width), (rows, columns), (down, across), (above, left) = self
        return (height + 2 * above - rows) // down + 1, (width + 2 * left - columns) // across + 1

    @property
    def mirrored(self) -> "Windows | None":
        """Of each pixel of the map, the results that it has gone into, if these are windows."""
        (rows, columns), (above, left) = self.kernel, self.padding
        padding = (rows - 1 - above, columns - 1 - left)
        if self.stride != (1, 1) or min(padding) < 0:
            return None
        return Windows(self.result, self.kernel, (1, 1), padding)

    @property
    def most_pixels_meet(self) -> bool:
        """Whether a matrix of all pixels by all is the smaller one: windows are mostly padding."""
        return 2 * prod(self.size) < prod(self.kernel)

    def gather(self, maps: Tensor) -> Tensor:
        """Every window of maps (N, C, H, W) as a column: (C kernel, positions N)."""
        count, channels = maps.shape[:2]
        whole, inside = self._padded(maps, channels, count)
        inside.copy_(maps.permute(1, 2, 3, 0))
        by_channel, by_row, by_column, _ = whole.stride()
        (down, across), (step_down, step_across) = self.result, self.stride
        seen = whole.as_strided(
            (channels, *self.kernel, down, across, count),
            (by_channel, by_row, by_column, by_row * step_down, by_column * step_across, 1),
        )
        return seen.reshape(channels * prod(self.kernel), down * across * count)

    def scatter(self, columns: Tensor) -> Tensor:
        """The adjoint of `gather`: each column's numbers added to the pixels they came from."""
        (down, across), (step_down, step_across) = self.result, self.stride
        places = prod(self.kernel)
        shares = columns.view(len(columns) // places, places, down, across, -1)
        whole, inside = self._padded(columns, len(shares), shares.shape[-1])
        for place in range(places):
            row, column = divmod(place, self.kernel[1])
            rows = slice(row, row + step_down * down, step_down)
            whole[:, rows, slice(column, column + step_across * across, step_across)] += shares[
                :, place
            ]
        return inside.permute(3, 0, 1, 2)

    def _padded(self, like: Tensor, channels: int, count: int) -> tuple[Tensor, Tensor]:
        """Zeros (C, height, width, N) with room for the padding, and their part without it."""
        (height, width), (above, left) = self.size, self.padding
        whole = like.new_zeros(channels, height + 2 * above, width + 2 * left, count)
        return whole, whole[:, above : above + height, left : left + width]


class _Convolution(torch.autograd.Function):
    """Maps (N, C, H, W), kernels (K, C, h, w) or results (N, K, H', W'): the one that is None.

    sum(results * (maps convolved with kernels)) is linear in each of the three. Its derivative by
    one of them is a function of the two others, whose own derivatives are again of this kind: the
    convolution, its gradient by the maps, and that by the kernels.
    """

    @staticmethod
    def forward(context: Any, *given: Any) -> Tensor:
        *three, windows = given
        needed = context.needs_input_grad
        # What no derivative needs is not kept: others may write over it.
        kept = [
            tensor if any(needed[:place] + needed[place + 1 :]) else None
            for place, tensor in enumerate(three)
        ]
        context.save_for_backward(*kept)
        context.windows = windows
        context.missing = next(place for place in range(3) if three[place] is None)
        derivatives: Any = (_by_maps, _by_kernels, _by_results)
        two = [tensor for tensor in three if tensor is not None]
        result: Tensor = derivatives[context.missing](*two, windows)
        return result

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        three = list(context.saved_tensors)
        three[context.missing] = gradient
        derivatives = [
            _Convolution.apply(*three[:place], None, *three[place + 1 :], context.windows)
            if context.needs_input_grad[place]
            else None
            for place in range(3)
        ]
        return (*derivatives, None)


def _by_results(maps: Tensor, kernels: Tensor, windows: Windows) -> Tensor:
    shape = (len(maps), len(kernels), *windows.result)
    results = torch.empty_permuted(shape, (1, 2, 3, 0), dtype=maps.dtype)
    rows = _images_innermost(results)
    if windows.most_pixels_meet:
        pixels = _images_innermost(maps).flatten(0, 2)
        product(_all_by_all(kernels, windows), pixels, out=rows.flatten(0, 2))
    else:
        product(kernels.flatten(1), windows.gather(maps), out=rows.flatten(1))
    return results


def _by_maps(kernels: Tensor, results: Tensor, windows: Windows) -> Tensor:
    rows = _images_innermost(results)
    if windows.most_pixels_meet:
        pixels = product(_all_by_all(kernels, windows).T, rows.flatten(0, 2))
        return pixels.view(kernels.shape[1], *windows.size, len(results)).permute(3, 0, 1, 2)
    if (mirrored := windows.mirrored) is not None:
        return _by_results(results, kernels.flip(2, 3).transpose(0, 1), mirrored)
    return windows.scatter(product(kernels.flatten(1).T, rows.flatten(1)))


def _by_kernels(maps: Tensor, results: Tensor, windows: Windows) -> Tensor:
    channels, kernels, rows = maps.shape[1], results.shape[1], _images_innermost(results)
    if windows.most_pixels_meet:
        pairs = product(rows.flatten(0, 2), _images_innermost(maps).flatten(0, 2).T)
        by_channel = pairs.view(kernels, prod(windows.result), channels, -1).transpose(1, 2)
        where = _meetings(windows, maps.dtype).flatten(1)
        shares = product(by_channel.reshape(kernels * channels, -1), where.T)
    else:
        shares = product(rows.flatten(1), windows.gather(maps).T)
    return shares.view(kernels, channels, *windows.kernel)


def _images_innermost(maps: Tensor) -> Tensor:
    return maps.permute(1, 2, 3, 0)


def _all_by_all(kernels: Tensor, windows: Windows) -> Tensor:
    """What each pixel of the map adds to each one of the result: (K result, C pixels)."""
    where = _meetings(windows, kernels.dtype)
    shares = product(kernels.reshape(-1, len(where)), where.flatten(1))
    shares = shares.view(*kernels.shape[:2], *where.shape[1:]).transpose(1, 2)
    return shares.reshape(len(kernels) * where.shape[1], -1)


@lru_cache
def _meetings(windows: Windows, dtype: torch.dtype) -> Tensor:
    """1 where a pixel of the map joins one of the result through a place of the kernel, else 0.

    Returns:
        (places, pixels of the result, pixels of the map), each counted row by row.
    """
    pixels = prod(windows.size)
    maps = torch.eye(pixels, dtype=dtype).view(pixels, 1, *windows.size)
    return windows.gather(maps).view(prod(windows.kernel), -1, pixels)


class ImagesInnermostNorm(nn.BatchNorm2d):
    """BatchNorm that leaves the images the innermost dimension of maps, as convolutions do.

    To torch each channel is one long run. For other layouts it would copy the maps, and in eval
    mode take the root of the variances with MKL, which rounds it by the processor.
    """

    def forward(self, maps: Tensor) -> Tensor:
        if not (_eager_on_cpu(maps) and arithmetic_is_portable()):
            return super().forward(maps)
        innermost = _images_innermost(maps).contiguous()
        normalised = super().forward(innermost.flatten(2)[None]).view(innermost.shape)
        # A copy, since a ReLU is to write over it: into a view, that takes several times as long.
        return normalised.permute(3, 0, 1, 2).clone()


class GreyConvolution(ProductConvolution):
    """A network's first convolution, of grey images, with a fast gradient by the images.

    oneDNN spends as much on the gradient by a single channel as on that of a whole layer. As one
    matrix product and a sum of shifted images it takes a fifth of the time.
    """

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
