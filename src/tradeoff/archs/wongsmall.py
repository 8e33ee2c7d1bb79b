"""The small convolutional network of Wong & Kolter (2018): two convolutions, two linear layers.

166 406 parameters for 28x28 pixels, 1 channel and 10 classes. Bounds can be computed of all of it.
"""

from torch import nn

from tradeoff.networks.preprocess import scaled

PADDED = (1, 8)  # its convolutions leave little of fewer pixels
TRAINS_ON_BOUNDS = True


def build(image: tuple[int, int, int], classes: int, width: float) -> nn.Module:
    """The network after its preprocessing: normalised images (N, *image) to logits."""
    channels, *sides = image
    thin, thick, hidden = (scaled(count, width) for count in (16, 32, 100))
    down, across = (side // 2 // 2 for side in sides)
    return nn.Sequential(
        nn.Conv2d(channels, thin, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(thin, thick, 4, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(thick * down * across, hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )
