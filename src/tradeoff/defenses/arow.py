"""ARoW (Yang et al. 2023): TRADES whose images weigh as much as the label is doubted under attack.

    L(x, y) = CE(f(x), smoothed y) + 2 lambda (1 - p_y(x')) KL(f(x) || f(x'))

As in the authors' code a gradient flows through 1 - p_y. They average weights besides: `train.swa`,
which is the same for every defense here.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.schema import Fraction, NonNegative, Section
from tradeoff.defenses import trades
from tradeoff.networks.losses import kl_divergence
from tradeoff.training.contract import Loss, Step

SELECT_BY = "robust"


class Knobs(Section):
    beta: NonNegative  # 2 lambda
    smoothing: Fraction


def doubt(logits: Tensor, labels: Tensor) -> Tensor:
    """1 - p_y, (N, C), (N,) -> (N,) in [0, 1], without the cancellation of that subtraction."""
    own = F.log_softmax(logits, 1).gather(1, labels[:, None]).squeeze(1)
    return -torch.expm1(own)


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    adversarial = trades.adversarial_examples(images, step.eval_logits(images), step)
    clean_logits, adversarial_logits = model(images), model(adversarial)
    cross_entropy = F.cross_entropy(clean_logits, labels, label_smoothing=knobs.smoothing)
    divergence = kl_divergence(F.log_softmax(clean_logits, 1), adversarial_logits)
    weight = knobs.beta * doubt(adversarial_logits, labels)
    parts = {"cross_entropy": cross_entropy.detach(), "divergence": divergence.mean().detach()}
    return Loss(cross_entropy + (weight * divergence).mean(), parts, {"lambda": weight.detach()})
