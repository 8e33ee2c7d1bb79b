"""PixelDefend (Song et al. 2018): the network of the base `protected` sees purified images.

What is trained is the density model of clean images that purifies them (`classifiers.purified`), by
its bits per dimension: the network is that of its base and stays so. The epoch is chosen by the
accuracy of all of it under attacks that go straight through the purification. A base of its own
trains the network, so that any can be protected: study.bases.protected.
"""

from torch import Tensor, nn

from tradeoff.core.schema import BadParams, Section
from tradeoff.training.contract import Loss, Step

SELECT_BY = "robust"
BASES = ("protected",)
START = "protected"
CLASSIFIER = "purified"


class Knobs(Section):
    """All knobs are the classifier's."""


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    """Bits per dimension of the images: the cross-entropy of each pixel's level.

    Raises:
        BadParams: training does not begin with the base's network, which would stay untrained.
    """
    if getattr(knobs, "fine_tuning", None) is None:
        raise BadParams("pixeldefend.fine_tuning: is null; it should have the keys epochs, rate")
    bits = step.network.bits(images).mean()  # type: ignore[operator]
    return Loss(bits, {"bits_per_dimension": bits.detach()})
