"""Feature squeezing (Xu, Evans & Qi 2018): images that differ in detail alone become the same one.

Three squeezers: fewer levels of brightness (section III.A), the median of a window (III.B) and
non-local means (III.C). As a classifier, the network sees the squeezed image, by all squeezers in
turn. As a detector (section V), it sees the image itself and suspects one whose probabilities a
squeezer changes: score(x) = max over squeezers of || p(x) - p(squeezed x) ||_1, in [0, 2].

The gradient is the one an adaptive attack follows (Athalye et al. 2018): that of the identity
through brightness and non-local means, of the chosen pixel through a median. The defense is known
to be broken by attackers who know it (He et al. 2017).
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Literal

import torch
from torch import Tensor, nn

from tradeoff.core.schema import BadParams, Positive, PositiveInt, Section
from tradeoff.networks.gradients import with_gradient_of

Squeezer = Callable[[Tensor], Tensor]


class Knobs(Section):
    """Which squeezers there are, null for none, and whether they classify or raise suspicion.

    Attributes:
        bits: of brightness that each pixel keeps.
        median: side of the window in pixels; one of 2 looks up and to the left.
        means: strength of non-local means, in 1/255 of the image range.
        search, block: sides of its two windows in pixels, odd.
    """

    detector: bool
    bits: Literal[1, 2, 3, 4, 5, 6, 7, 8] | None
    median: PositiveInt | None
    means: Positive | None
    search: Literal[3, 5, 7, 9, 11, 13, 15, 17, 19, 21]
    block: Literal[1, 3, 5, 7]


def bit_depth(images: Tensor, bits: int) -> Tensor:
    """The nearest of 2^bits levels of brightness in [0, 1]; halfway, the even one."""
    top = 2**bits - 1
    return with_gradient_of(images, (top * images).round() / top)


def median(images: Tensor, height: int, width: int) -> Tensor:
    """Of each pixel's window in its channel the middle value, the upper one of an even number.

    The window reaches from floor(side / 2) pixels before to ceil(side / 2) - 1 behind; beyond the
    border the image is mirrored, with the border's pixel twice.
    """
    rows, columns = images.shape[2:]
    padded = _mirrored(images, 2, height // 2, (height - 1) // 2, twice=True)
    padded = _mirrored(padded, 3, width // 2, (width - 1) // 2, twice=True)
    windows = [
        padded[:, :, row : row + rows, column : column + columns]
        for row, column in product(range(height), range(width))
    ]
    return torch.stack(windows, -1).sort(-1).values[..., len(windows) // 2]


def non_local_means(levels: Tensor, search: int, block: int, strength: float) -> Tensor:
    """The mean of the pixels of a window, weighted by how alike the blocks around them are.

    In whole numbers, as in OpenCV's `fastNlMeansDenoising`, all channels together. Beyond the
    border the image is mirrored, with the border's pixel once.

    Args:
        levels: (N, C, H, W) int64 in 0 .. 255.
        search, block: sides of the window and of the blocks.
        strength: of two blocks that differ by so much in root mean square, one weighs 1/e.
    """
    reach, half, channels = search // 2, block // 2, levels.shape[1]
    rows, columns = levels.shape[2:]
    padded = levels
    for axis in (2, 3):
        padded = _mirrored(padded, axis, reach + half, reach + half, twice=False)
    weights, shift = _weights(search, block, channels, strength)
    weights = weights.to(levels.device)

    def moved(by: tuple[int, ...], margin: int) -> Tensor:
        """The image at an offset, with `margin` pixels more on each side."""
        first, left = (reach + half + offset - margin for offset in by)
        return padded[:, :, first : first + rows + 2 * margin, left : left + columns + 2 * margin]

    total, weighted = torch.zeros_like(levels[:, :1]), torch.zeros_like(levels)
    for offset in product(range(-reach, reach + 1), repeat=2):
        difference = (moved(offset, half) - moved((0, 0), half)).square().sum(1, keepdim=True)
        distance = difference.unfold(2, block, 1).unfold(3, block, 1).sum((-2, -1))
        weight = weights[distance >> shift]
        total += weight
        weighted += weight * moved(offset, 0)
    return (weighted + total // 2) // total


def _weights(search: int, block: int, channels: int, strength: float) -> tuple[Tensor, int]:
    """The weight (whole numbers) of each distance of blocks, divided by 2^shift; and shift."""
    shift = (block**2 - 1).bit_length()
    largest = (2**31 - 1) // (255 * search**2)
    distances = torch.arange((255**2 * channels * block**2 >> shift) + 1, dtype=torch.float64)
    mean = distances * 2**shift / block**2
    weights = (largest * torch.exp(-mean / (channels * strength**2))).round().long()
    return weights * (weights >= 0.001 * largest), shift


def _mirrored(images: Tensor, axis: int, before: int, behind: int, *, twice: bool) -> Tensor:
    """Images continued beyond their borders as in a mirror, whose pixel there is once or twice."""
    size = images.shape[axis]
    places = torch.arange(-before, size + behind, device=images.device)
    places = torch.where(places < 0, -places - int(twice), places)
    places = torch.where(places < size, places, 2 * size - 2 + int(twice) - places)
    return images.index_select(axis, places)


def smoothed_by_means(images: Tensor, search: int, block: int, strength: float) -> Tensor:
    """`non_local_means` of images in [0, 1], which are rounded to 1/255."""
    levels = (255 * images).round().long()
    value = non_local_means(levels, search, block, strength).to(images.dtype) / 255
    return with_gradient_of(images, value)


def make_squeezers(knobs: Knobs, image: tuple[int, ...]) -> list[Squeezer]:
    """The squeezers that the knobs ask for, each from images to images, (N, C, H, W) in [0, 1].

    Raises:
        BadParams: there is none, or a window is too large for the image.
    """
    chosen: list[Squeezer] = []
    side = min(image[1:])
    if knobs.bits is not None:
        chosen.append(partial(bit_depth, bits=knobs.bits))
    if knobs.median is not None:
        if knobs.median // 2 > side:
            raise BadParams(f"classifier.median: is {knobs.median}; the image has {side} pixels")
        chosen.append(partial(median, height=knobs.median, width=knobs.median))
    if (strength := knobs.means) is not None:
        if knobs.search // 2 + knobs.block // 2 >= side:
            raise BadParams(
                f"classifier.search: is {knobs.search} with blocks of {knobs.block}; half of both "
                f"should be less than the image's {side} pixels"
            )
        windows = knobs.search, knobs.block
        chosen.append(lambda images: smoothed_by_means(images, *windows, strength))
    if not chosen:
        raise BadParams("classifier: bits, median and means are null; one of them should not be")
    return chosen


def distances(network: nn.Module, images: Tensor, squeezers: Sequence[Squeezer]) -> Tensor:
    """|| p(x) - p(squeezed x) ||_1 for each squeezer, (K, N) in [0, 2]."""
    probabilities = network(images).softmax(1)
    squeezed = torch.stack([network(squeeze(images)).softmax(1) for squeeze in squeezers])
    return (probabilities - squeezed).abs().sum(2)


class Squeezed(nn.Module):
    """Images (N, C, H, W) in [0, 1], squeezed, to the network's logits (N, classes)."""

    def __init__(self, network: nn.Module, squeezers: Sequence[Squeezer]) -> None:
        super().__init__()
        self.network, self.squeezers = network, squeezers

    def forward(self, images: Tensor) -> Tensor:
        for squeeze in self.squeezers:
            images = squeeze(images)
        logits: Tensor = self.network(images)
        return logits

    def undefended(self) -> nn.Module:
        return self.network


class Detector(Squeezed):
    """The network itself, which suspects images that squeezing classifies otherwise."""

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits

    def rejection_score(self, images: Tensor) -> Tensor:
        """The greatest of the `distances`, (N,) in [0, 2]."""
        return distances(self.network, images, self.squeezers).amax(0)


def build(
    networks: Sequence[nn.Module], knobs: Knobs, *, image: tuple[int, ...], seed: int
) -> nn.Module:
    """The one network behind squeezers, or beside them."""
    (network,) = networks
    return (Detector if knobs.detector else Squeezed)(network, make_squeezers(knobs, image))
