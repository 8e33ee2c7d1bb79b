"""WideResNet-34-10 (Zagoruyko & Komodakis 2016): ten times the channels of a thin ResNet-34.

46 160 474 parameters for 3 channels and 10 classes. No dropout, as usual against attacks.
"""

from torch import nn

from tradeoff.networks.preactivation import PreActivationNetwork
from tradeoff.networks.preprocess import scaled

BLOCKS = 5  # of each stage: (34 - 4) / 6


def build(image: tuple[int, int, int], classes: int, width: float) -> nn.Module:
    """The network after its preprocessing: normalised images (N, *image) to logits."""
    stem, *widths = (scaled(channels, width) for channels in (16, 160, 320, 640))
    return PreActivationNetwork(image[0], classes, stem, widths, BLOCKS)
