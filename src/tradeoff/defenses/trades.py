"""TRADES (Zhang et al. 2019, equation 5): CE(f(x), y) + beta max KL(f(x) || f(x')).

beta is 1/lambda of the paper. The ascent starts at x + 0.001 N(0, 1) and neither branch of the
divergence is detached, as the authors' code has it: detaching costs robustness.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.schema import NonNegative, Section
from tradeoff.networks.ascent import ascend_divergence
from tradeoff.networks.losses import kl_divergence
from tradeoff.training.contract import Loss, Step

SELECT_BY = "robust"


class Knobs(Section):
    beta: NonNegative


def adversarial_examples(images: Tensor, clean_logits: Tensor, step: Step) -> Tensor:
    """PGD on KL(f(x) || f(x')) from beside x, (N, C, H, W); f(x) are the eval-mode logits."""
    clean = F.log_softmax(clean_logits, 1)
    return ascend_divergence(step.frozen, images, clean, step.gaussian_start(images), step.inner)


def objective(
    clean_logits: Tensor, adversarial_logits: Tensor, labels: Tensor, weight: float | Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """CE(f(x), y) + weight KL(f(x) || f(x')), a scalar mean over the batch, and its two parts.

    Args:
        clean_logits, adversarial_logits: f(x) and f(x'), (N, C); neither is detached.
        labels: (N,), or probabilities of the classes, (N, C).
        weight: of the divergence, one for all or one for each image (N,).

    Returns:
        The total; the cross-entropy and the unweighted divergence, for the history.
    """
    cross_entropy = F.cross_entropy(clean_logits, labels)
    divergence = kl_divergence(F.log_softmax(clean_logits, 1), adversarial_logits)
    parts = {"cross_entropy": cross_entropy.detach(), "divergence": divergence.mean().detach()}
    return cross_entropy + (weight * divergence).mean(), parts


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    adversarial = adversarial_examples(images, step.eval_logits(images), step)
    return Loss(*objective(model(images), model(adversarial), step.targets(labels), knobs.beta))
