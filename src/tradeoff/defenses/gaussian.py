"""Training with Gaussian noise (Cohen et al. 2019, section 3.3): CE(f(x + sigma n), y).

The noise is not clipped to [0, 1]: the certificate that it prepares for (`smoothing`) holds for the
unbounded Gaussian.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.schema import Positive, Section
from tradeoff.training.contract import Loss, Step

SELECT_BY = "certified"
CERTIFICATE = "smoothing"


class Knobs(Section):
    sigma: Positive


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    noisy = images + knobs.sigma * step.gaussian_noise(images)
    loss = F.cross_entropy(model(noisy), step.targets(labels))
    return Loss(loss, {"cross_entropy": loss.detach()})
