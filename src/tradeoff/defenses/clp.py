"""Clean logit pairing and logit squeezing (Kannan et al. 2018, sections 3.3 and 5), without attack.

    v = clip(x + sigma n, 0, 1)
    L = CE(f(v), y) + w mean_i || f(v_i) - f(v_j) ||^2 / C + s mean_i || f(v_i) ||_2

The image j that i is paired with is any other one of the batch: the first half is paired with the
last one, in a random order, and the one in the middle of an odd batch with none. Small logits
flatten the cross-entropy and roughen it: PGD with one start overestimates these networks by up to
66 points (Mosbach et al. 2018).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.schema import NonNegative, Section
from tradeoff.training.contract import Loss, Step

SELECT_BY = "robust"


class Knobs(Section):
    sigma: NonNegative  # in units of the image range
    weight: NonNegative  # of pairing, w
    squeezing: NonNegative  # weight of the logits' norm, s


def objective(
    logits: Tensor, labels: Tensor, weight: float, squeezing: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of noisy images with these logits (N, C), a scalar, and its three parts."""
    half = len(logits) // 2
    cross_entropy = F.cross_entropy(logits, labels)
    pairing = F.mse_loss(logits[:half], logits[-half:])
    length = torch.linalg.vector_norm(logits, dim=1).mean()
    parts = {"cross_entropy": cross_entropy, "pairing": pairing, "length": length}
    total = cross_entropy + weight * pairing + squeezing * length
    return total, {name: value.detach() for name, value in parts.items()}


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    noisy = (images + knobs.sigma * step.gaussian_noise(images)).clamp(0, 1)
    return Loss(*objective(model(noisy), step.targets(labels), knobs.weight, knobs.squeezing))
