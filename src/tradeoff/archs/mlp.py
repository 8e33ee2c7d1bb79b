"""A fully connected network with two hidden layers, for data without neighbourhoods such as HAR.

420 614 parameters for 561 features and 6 classes, at its full width of 512 and 256.
"""

from math import prod

from torch import nn

from tradeoff.networks.preprocess import scaled

PADDED = (1, 1)  # nothing is
TRAINS_ON_BOUNDS = True


def build(image: tuple[int, int, int], classes: int, width: float) -> nn.Module:
    """The network after its preprocessing: normalised images (N, *image) to logits."""
    first, second = scaled(512, width), scaled(256, width)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(prod(image), first),
        nn.ReLU(inplace=True),
        nn.Linear(first, second),
        nn.ReLU(inplace=True),
        nn.Linear(second, classes),
    )
