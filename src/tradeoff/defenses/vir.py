"""VIR-TRADES (Fakorede et al. 2023): TRADES whose images weigh by vulnerability and discrepancy.

    L(x, y)  = CE(f(x), y) + w(x, x') KL(f(x) || f(x'))
    w(x, x') = alpha exp(-gamma p_y(x)) KL(f(x) || f(x')) + floor

This form, a vulnerability that decays in p_y(x), times what the attack changed, plus a constant, is
a reconstruction from the abstract, since no code is public; the values of alpha, gamma and floor
are this study's. No gradient flows through w.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.schema import NonNegative, Section
from tradeoff.defenses import trades
from tradeoff.networks.losses import kl_divergence
from tradeoff.training.contract import Loss, Step

SELECT_BY = "robust"


class Knobs(Section):
    alpha: NonNegative
    gamma: NonNegative
    floor: NonNegative


def vulnerability_weight(
    clean_logits: Tensor, adversarial_logits: Tensor, labels: Tensor, knobs: Knobs
) -> Tensor:
    """w of each image, (N, C), (N, C), (N,) -> (N,), at least the floor."""
    log_probabilities = F.log_softmax(clean_logits, 1)
    own = log_probabilities.gather(1, labels[:, None]).squeeze(1).exp()
    vulnerability = knobs.alpha * (-knobs.gamma * own).exp()
    return vulnerability * kl_divergence(log_probabilities, adversarial_logits) + knobs.floor


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    adversarial = trades.adversarial_examples(images, step.eval_logits(images), step)
    clean_logits, adversarial_logits = model(images), model(adversarial)
    weight = vulnerability_weight(clean_logits.detach(), adversarial_logits.detach(), labels, knobs)
    targets = step.targets(labels)
    total, parts = trades.objective(clean_logits, adversarial_logits, targets, weight)
    return Loss(total, parts, {"lambda": weight})
