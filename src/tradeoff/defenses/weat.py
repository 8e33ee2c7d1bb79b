"""WEAT (Mirza et al. 2024): images weigh less the farther their marginal energy is from 0.

    L(x, y) = w(x) (CE(f(x'), y) + beta KL(f(x) || f(x')))
    w(x)    = 1 / log(1 + exp |E(x)|),    E(x) = -log sum_k exp f_k(x)

as the authors' code has the variant that is trained on adversarial labels (their WEAT_adv). No
gradient flows through w.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.schema import NonNegative, Section
from tradeoff.defenses import trades
from tradeoff.networks.losses import kl_divergence
from tradeoff.training.contract import Loss, Step

SELECT_BY = "robust"


class Knobs(Section):
    beta: NonNegative


def energy_weight(clean_logits: Tensor) -> Tensor:
    """w of each image, (N, C) -> (N,), at most 1 / ln 2."""
    return 1 / F.softplus(clean_logits.logsumexp(1).abs())


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    adversarial = trades.adversarial_examples(images, step.eval_logits(images), step)
    clean_logits, adversarial_logits = model(images), model(adversarial)
    weight = energy_weight(clean_logits.detach())
    targets = step.targets(labels)
    cross_entropy = weight * F.cross_entropy(adversarial_logits, targets, reduction="none")
    divergence = kl_divergence(F.log_softmax(clean_logits, 1), adversarial_logits)
    parts = {
        "cross_entropy": cross_entropy.mean().detach(),
        "divergence": divergence.mean().detach(),
    }
    weight = knobs.beta * weight
    return Loss((cross_entropy + weight * divergence).mean(), parts, {"lambda": weight})
