"""PixelDefend (Song et al. 2018): the network sees the likeliest image near the one it is given.

By a density model of clean images (`classifiers.pixelcnn`) each pixel, in reading order, moves to
the most likely level at most `radius` from its own, given those that have moved already (algorithm
1). The image is taken to its nearest levels first. One that is likely as it is may be spared: the
paper's adaptive form.

How unlikely the image itself is says how suspicious it is (section 3.2). The paper ranks it among
images: its p-value is (r + 1) / (n + 1) if r of n are no likelier. A threshold of bits per
dimension that 5 % of validation images exceed rejects what has a p-value of about 5 % or less.

The gradient is that of the identity through the purification, by which the defense is known to be
broken (Athalye et al. 2018: 9 % of CIFAR-10 are left). But a pixel also decides where the density
moves those after it, which the identity does not know. Attacks climb the `surrogate()`, which does.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tradeoff.classifiers.pixelcnn import PixelCnn, bits_per_dimension
from tradeoff.core.schema import BadParams, NonNegative, PositiveInt, Section
from tradeoff.networks.folding import fold
from tradeoff.networks.gradients import with_gradient_of
from tradeoff.networks.randomness import derive_seed

SOFTNESS = 0.5  # of the window's ends in what attacks climb, in levels
IDENTITY = 0.2  # the share of the identity there
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
        levels = to_levels(images, self.knobs.levels)
        moved = self.density.most_likely(levels, self.reach(images))
        return moved.to(images.dtype) / (self.knobs.levels - 1)

    @torch.no_grad()
    def reach(self, images: Tensor) -> Tensor:
        """How many levels the pixels of each image may move, (N,) int64."""
        spared = self.knobs.spared
        bits = images.new_zeros(len(images)) if spared is None else self.bits(images)
        return radii(bits, self.knobs.radius, spared)

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

    def surrogate(self) -> nn.Module:
        return _Surrogate(fold(self)).eval()


class _Surrogate(nn.Module):
    """What an attack climbs: what the classifier says, with the gradient of expected levels.

    In the gradient a pixel is purified to the mean of the levels, by their probabilities given the
    purified pixels before it, in a window around its own level whose ends are soft. So it moves
    with its own level as far as the window holds it, and with those of the pixels before it. A
    share of the identity is added, for pixels that neither moves.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, images: Tensor) -> Tensor:
        purified = self.model.purify(images)
        if torch.is_grad_enabled() and images.requires_grad:
            path = self.expected(images, purified) + IDENTITY * images
            purified = with_gradient_of(path, purified)
        logits: Tensor = self.model.network(purified)
        return logits

    def expected(self, images: Tensor, purified: Tensor) -> Tensor:
        """The mean levels, in [0, 1], where the pixels before each have been purified to these."""
        count = self.model.knobs.levels
        top, reach = count - 1, self.model.reach(images.detach()).view(-1, 1, 1, 1)
        logits = self.model.density(top * with_gradient_of(images, purified))
        levels = torch.arange(count, device=images.device).view(1, -1, 1, 1)
        inside = reach + 0.5 - (levels - top * images).abs()
        shares = (logits + F.logsigmoid(inside / SOFTNESS)).softmax(1)
        return (shares * levels).sum(1, keepdim=True) / top


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
