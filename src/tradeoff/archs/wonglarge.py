"""The large convolutional network of Wong et al. (2018): four convolutions, three linear layers.

1 974 762 parameters for 28x28 pixels, 1 channel and 10 classes. Bounds can be computed of all of
it; in training they are meant to be estimated by projections.
"""

from torch import nn

from tradeoff.networks.preprocess import scaled

PADDED = (1, 8)  # its convolutions leave little of fewer pixels
TRAINS_ON_BOUNDS = True


def build(image: tuple[int, int, int], classes: int, width: float) -> nn.Module:
    """The network after its preprocessing: normalised images (N, *image) to logits."""
    channels, *sides = image
    thin, thick, hidden = (scaled(count, width) for count in (32, 64, 512))
    down, across = (side // 2 // 2 for side in sides)
    layers: list[nn.Module] = []
    for before, after, kernel, stride in (
        (channels, thin, 3, 1), (thin, thin, 4, 2), (thin, thick, 3, 1), (thick, thick, 4, 2),
    ):  # fmt: skip
        layers += [nn.Conv2d(before, after, kernel, stride, 1), nn.ReLU()]
    layers.append(nn.Flatten())
    for before in (thick * down * across, hidden):
        layers += [nn.Linear(before, hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, classes))
