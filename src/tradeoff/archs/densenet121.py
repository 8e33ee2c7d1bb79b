"""DenseNet-121 (Huang et al. 2017) in its 32x32 form: torchvision's, with a 3x3 stem and no pool.

6 956 298 parameters for 3 channels and 10 classes. Names are torchvision's, so that its ImageNet
weights load wherever shapes fit.
"""

from torch import nn
from torchvision.models.densenet import DenseNet

from tradeoff.networks.preprocess import scaled


def build(image: tuple[int, int, int], classes: int, width: float) -> nn.Module:
    """The network after its preprocessing: normalised images (N, *image) to logits."""
    growth, stem = scaled(32, width), scaled(64, width)
    network = DenseNet(growth, (6, 12, 24, 16), stem, num_classes=classes)
    network.features.conv0 = nn.Conv2d(image[0], stem, 3, padding=1, bias=False)
    for name in ("norm0", "relu0", "pool0"):
        delattr(network.features, name)
    for module in network.modules():
        if isinstance(module, nn.AvgPool2d):  # of the transitions: a side of one pixel stays
            module.ceil_mode = True
    return network
