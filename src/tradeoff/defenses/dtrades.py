"""D-TRADES, the thesis's proposal (equations 6.2 to 6.4): TRADES with a weight for each input.

    lambda(x) = alpha H(f(x)) + beta || grad_x' KL(f(x) || f(x')) ||_2   at x' = x + delta
    L(x, y)   = CE(f(x), y) + lambda(x) KL(f(x) || f(x'))

Entropy and sensitivity are measured once, in eval mode at the final x', and no gradient flows
through lambda; `differentiable` measures them in train mode and lets it through (an ablation).

Whether it helps that lambda depends on the image is a causal question. `whose` answers it: images
get another's lambda, or a mean, and lambda's mean over the batch stays what it was.
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.schema import NonNegative, Section
from tradeoff.defenses import trades
from tradeoff.networks.losses import entropy, kl_divergence
from tradeoff.networks.threat import perturbation_norm
from tradeoff.training.contract import Loss, Step

SELECT_BY = "robust"


class Knobs(Section):
    alpha: NonNegative
    beta: NonNegative
    differentiable: bool
    whose: Literal["own", "shuffled", "batch_mean", "class_mean"] = "own"


class Weight(NamedTuple):
    """lambda(x) and its two terms, each (N,), and f(x'), (N, classes), from the same pass."""

    weight: Tensor
    entropy: Tensor  # alpha H
    sensitivity: Tensor  # beta || gradient ||
    adversarial_logits: Tensor


def adaptive_weight(
    model: nn.Module,
    clean_logits: Tensor,
    adversarial: Tensor,
    alpha: float,
    beta: float,
    differentiable: bool = False,
) -> Weight:
    """Equation 6.2, in the model's present mode.

    Args:
        clean_logits: f(x), (N, classes).
        adversarial: x', (N, C, H, W).
        differentiable: keep the graph, so that lambda has a gradient by the parameters.
    """
    if not differentiable:
        clean_logits = clean_logits.detach()
    points = adversarial.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(points)
        divergence = kl_divergence(F.log_softmax(clean_logits, 1), logits).sum()
        (gradient,) = torch.autograd.grad(divergence, points, create_graph=differentiable)
    uncertainty = alpha * entropy(clean_logits)
    sensitivity = beta * perturbation_norm(gradient, "l2")
    return Weight(uncertainty + sensitivity, uncertainty, sensitivity, logits)


def given(weight: Tensor, labels: Tensor, whose: str) -> Tensor:
    """The lambda that each image of a batch is given, (N,); its mean is that of their own.

    Args:
        weight: each image's own lambda, (N,).
        labels: (N,).
        whose: "own", "shuffled": that of the image beside it, which is any other, since batches are
            in random order; "batch_mean"; or "class_mean", of the batch's images of its class.
    """
    if whose == "shuffled":
        return weight.roll(1)
    if whose == "batch_mean":
        return weight.mean().expand_as(weight)
    if whose == "class_mean":
        same = (labels[:, None] == labels).to(weight.dtype)
        return (same * weight).sum(1) / same.sum(1)
    return weight


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    eval_logits = step.eval_logits(images)
    adversarial = trades.adversarial_examples(images, eval_logits, step)
    clean_logits = model(images)
    if knobs.differentiable:
        measured = adaptive_weight(
            model, clean_logits, adversarial, knobs.alpha, knobs.beta, differentiable=True
        )
        # A second pass would move BatchNorm's statistics twice towards those of x'.
        adversarial_logits = measured.adversarial_logits
    else:
        measured = adaptive_weight(step.frozen, eval_logits, adversarial, knobs.alpha, knobs.beta)
        adversarial_logits = model(adversarial)
    weight = given(measured.weight, labels, knobs.whose)
    total, parts = trades.objective(  # equation 6.4
        clean_logits, adversarial_logits, step.targets(labels), weight
    )
    samples = {
        "lambda": weight.detach(),
        "lambda_entropy": measured.entropy.detach(),
        "lambda_sensitivity": measured.sensitivity.detach(),
    }
    return Loss(total, parts, samples)
