"""PreAct-ResNet-18 (He et al. 2016b) in its 32x32 form: 3x3 stem, no max-pool, blocks 2-2-2-2.

11 172 170 parameters for 3 channels and 10 classes, as in Rice et al. (2020), whose networks have
the last BatchNorm of the paper.
"""

from torch import nn

from tradeoff.networks.preactivation import PreActivationNetwork
from tradeoff.networks.preprocess import scaled


def build(image: tuple[int, int, int], classes: int, width: float) -> nn.Module:
    """The network after its preprocessing: normalised images (N, *image) to logits."""
    widths = [scaled(channels, width) for channels in (64, 128, 256, 512)]
    return PreActivationNetwork(image[0], classes, widths[0], widths, blocks=2)
