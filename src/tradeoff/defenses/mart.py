"""MART (Wang et al. 2020, equations 8 to 11): boosted CE(x') + beta (1 - p_y(x)) KL(x || x').

Everything is computed from log-probabilities in float32, so that confident samples and bfloat16
logits do no harm. The weight 1 - p_y is not detached.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.schema import NonNegative, Section
from tradeoff.networks.ascent import ascend_cross_entropy
from tradeoff.networks.elementary import log
from tradeoff.networks.losses import kl_divergence
from tradeoff.training.contract import Loss, Step

SELECT_BY = "robust"


class Knobs(Section):
    beta: NonNegative


def boosted_cross_entropy(adversarial_logits: Tensor, labels: Tensor) -> Tensor:
    """Equation 8: -log p_y - log(1 - max_{j != y} p_j), mean over the batch, a scalar."""
    log_probabilities = F.log_softmax(adversarial_logits.float(), 1)
    rival = log_probabilities.scatter(1, labels[:, None], float("-inf")).amax(1).exp()
    # The authors' 1.0001 bounds the gradient where the rival's probability is 1.
    return F.nll_loss(log_probabilities, labels) - log(1.0001 - rival).mean()


def objective(
    clean_logits: Tensor, adversarial_logits: Tensor, labels: Tensor, beta: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Total loss, its boosted cross-entropy and its weighted divergence, each a scalar."""
    boosted = boosted_cross_entropy(adversarial_logits, labels)
    clean = F.log_softmax(clean_logits.float(), 1)
    doubt = -torch.expm1(clean.gather(1, labels[:, None]).squeeze(1))
    divergence = (doubt * kl_divergence(clean, adversarial_logits.float())).mean()
    return boosted + beta * divergence, boosted, divergence


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    start = step.gaussian_start(images)
    adversarial = ascend_cross_entropy(step.frozen, images, labels, start, step.inner)
    total, boosted, divergence = objective(model(images), model(adversarial), labels, knobs.beta)
    return Loss(
        total, {"boosted_cross_entropy": boosted.detach(), "divergence": divergence.detach()}
    )
