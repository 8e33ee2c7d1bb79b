"""TRADES (Zhang et al. 2019, equation 5): CE(f(x), y) + beta max KL(f(x) || f(x')).

beta is 1/lambda of the paper. The ascent starts at x + 0.001 N(0, 1) and neither branch of the
divergence is detached, as the authors' code has it: detaching costs robustness.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.schema import NonNegative, Section
from tradeoff.networks.ascent import ascend_divergence
from tradeoff.networks.losses import trades_objective
from tradeoff.training.contract import Loss, Step

SELECT_BY = "robust"


class Knobs(Section):
    beta: NonNegative


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    start = step.gaussian_start(images)
    clean = F.log_softmax(step.eval_logits(images), 1)
    adversarial = ascend_divergence(step.frozen, images, clean, start, step.inner)
    total, cross_entropy, divergence = trades_objective(
        model(images), model(adversarial), labels, knobs.beta
    )
    return Loss(total, {"cross_entropy": cross_entropy.detach(), "divergence": divergence.detach()})
