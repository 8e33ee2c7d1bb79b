"""PixelDefend (Song et al. 2018): the network sees the likeliest image near the one it is given.

By a density model of clean images (`classifiers.pixelcnn`) each pixel, in reading order, moves to
the most likely level at most `radius` from its own, given those that have moved already (algorithm
1). The image is taken to its nearest levels first. One that is likely as it is may be spared: the
paper's adaptive form.

How unlikely the image itself is says how suspicious it is (section 3.2). The paper ranks it among
images: its p-value is (r + 1) / (n + 1) if r of n are no likelier. A threshold of bits per
dimension that 5 % of validation images exceed rejects what has a p-value of about 5 % or less.

The gradient is that of the identity through the purification, by which the defense is known to be
broken (Athalye et al. 2018: 9 % of CIFAR-10 are left).
"""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tradeoff.classifiers.pixelcnn import PixelCnn, bits_per_dimension
from tradeoff.core.schema import BadParams, NonNegative, PositiveInt, Section
from tradeoff.networks.gradients import with_gradient_of
from tradeoff.networks.randomness import derive_seed

CODE = ("classifiers/pixelcnn.py",)


class Knobs(Section):
    """The density model, and how far purification may go.

    Attributes:
        levels: that a pixel can have: 17 of digits, 256 of other images.
        width, layers: of the PixelCNN.
        radius: how many levels a pixel is moved at most; twice the attack's, usually.
        spared: bits per dimension up to which an image is left as it is; null: none is.
    """

    levels: Annotated[int, Field(ge=2, le=256)]
    width: PositiveInt
    layers: PositiveInt
    radius: PositiveInt
    spared: NonNegative | None


def to_levels(images: Tensor, levels: int) -> Tensor:
    """The nearest level of each pixel of images in [0, 1], int64; halfway the upper one."""
    return ((levels - 1) * images + 0.5).floor().long()


def radii(bits: Tensor, radius: int, spared: float | None) -> Tensor:
    """How many levels the pixels of each image may move, (N,) int64, by its bits per dimension."""
    full = torch.full_like(bits, radius, dtype=torch.long)
    return full if spared is None else full.masked_fill(bits <= spared, 0)


class Purified(nn.Module):
    """Images (N, 1, H, W) in [0, 1], purified, to the network's logits (N, classes)."""

    def __init__(self, network: nn.Module, knobs: Knobs) -> None:
        super().__init__()
        self.network, self.knobs = network, knobs
        self.density = PixelCnn(knobs.levels, knobs.width, knobs.layers)
        self.register_load_state_dict_pre_hook(_of_a_plain_network)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(with_gradient_of(images, self.purify(images)))
        return logits

    @torch.no_grad()
    def purify(self, images: Tensor) -> Tensor:
        """Images whose pixels have been moved, each to a level."""
        knobs, levels = self.knobs, to_levels(images, self.knobs.levels)
        bits = images.new_zeros(len(images)) if knobs.spared is None else self.bits(images)
        moved = self.density.most_likely(levels, radii(bits, knobs.radius, knobs.spared))
        return moved.to(images.dtype) / (knobs.levels - 1)

    def bits(self, images: Tensor) -> Tensor:
        """Bits per dimension of the images at their nearest levels, (N,).

        The gradient is that of the logarithm of a pixel's probability interpolated between levels.
        """
        levels, places = to_levels(images, self.knobs.levels), (self.knobs.levels - 1) * images
        rounded = with_gradient_of(places, levels.to(images.dtype))
        logarithms = F.log_softmax(self.density(rounded), 1)
        lower = places.detach().floor().long().clamp_max(self.knobs.levels - 2)
        below, above = logarithms.gather(1, lower), logarithms.gather(1, lower + 1)
        path = below + (places - lower) * (above - below)
        each = with_gradient_of(path, logarithms.gather(1, levels)).flatten(1)
        return bits_per_dimension(each.sum(1), each.shape[1])

    def rejection_score(self, images: Tensor) -> Tensor:
        """How unlikely the images are, (N,), in bits per dimension."""
        return self.bits(images)

    def undefended(self) -> nn.Module:
        return self.network


def _of_a_plain_network(model: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Take the tensors of a plain network for those of the one behind the purification."""
    if any(name.startswith(f"{prefix}network.") for name in state):
        return
    own = {name: tensor for name, tensor in model.state_dict().items() if "density." in name}
    plain = {f"{prefix}network.{name.removeprefix(prefix)}": state.pop(name) for name in [*state]}
    state |= plain | {f"{prefix}{name}": tensor for name, tensor in own.items()}


def build(
    networks: Sequence[nn.Module], knobs: Knobs, *, image: tuple[int, ...], seed: int
) -> nn.Module:
    """The one network behind purification; the density model has yet to be trained.

    Raises:
        BadParams: the images are not grey.
    """
    (network,) = networks
    if image[0] != 1:
        raise BadParams(f"classifier: purified knows grey images; these have {image[0]} channels")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed("density", seed))
        return Purified(network, knobs)
