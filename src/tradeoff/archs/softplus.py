"""One hidden layer of softplus units: a network whose gradient is Lipschitz, by a constant known.

Without rectifiers, so that locally biased smoothing has its proof on it (`certificates.lbrs`).
"""

from math import prod

from torch import nn

from tradeoff.networks.preprocess import scaled

PADDED = (1, 1)  # nothing is


def build(image: tuple[int, int, int], classes: int, width: float) -> nn.Module:
    """The network after its preprocessing: normalised images (N, *image) to logits."""
    hidden = scaled(64, width)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(prod(image), hidden), nn.Softplus(), nn.Linear(hidden, classes)
    )
