"""FAAL (Zhang et al. 2024): adversarial training whose class weights follow the worst classes.

In each batch the weights solve  max_w sum_c n_c w_c m_c  with sum w = 1, KL(uniform || w) <= r,
where m_c is class c's mean margin max_{j != y} p_j - p_y under attack and n_c its count.

The authors fine-tune a finished robust network for a few epochs, at a smaller learning rate: so
training begins with the weights of the base `robust`, unless `faal.fine_tuning` is null.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.schema import Positive, Section
from tradeoff.defenses import at
from tradeoff.networks.elementary import log
from tradeoff.networks.losses import margin
from tradeoff.training.contract import Loss, Step

SELECT_BY = "robust"
BASES = ("robust",)
START = "robust"


class Knobs(Section):
    radius: Positive


def class_margins(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of max_{j != y} p_j - p_y per class, -1 where a class is absent, and counts, (C,)."""
    classes = probabilities.shape[1]
    margins = margin(probabilities, labels)
    # Not `bincount`: on a GPU that would wait, for the largest label.
    counts = margins.new_zeros(classes).index_add_(0, labels, torch.ones_like(margins))
    sums = torch.zeros_like(counts).index_add_(0, labels, -margins)
    return torch.where(counts > 0, sums / counts.clamp_min(1), -1.0), counts


def class_weights(margins: Tensor, counts: Tensor, radius: float | Tensor) -> Tensor:
    """The maximiser w (C,), in closed form up to one root, found on the device without waiting.

    Stationarity gives w_c proportional to 1 / (nu - n_c m_c); the divergence falls as nu grows
    from max_c n_c m_c, so the root of KL(uniform || w) = r is searched in log(nu - max). Each
    round tries a thousand points at once: bisection would be ten times as many small kernels.
    """
    gains = (margins * counts).double()
    gaps = gains.max() - gains
    scale = gaps.max().clamp_min(1e-12)
    shares = torch.linspace(0, 1, 1025, dtype=gains.dtype, device=gains.device)
    low, high = torch.full_like(scale, -40.0), torch.full_like(scale, 20.0)
    for _ in range(6):
        tried = low + (high - low) * shares
        first = (_divergence_from_uniform(_weights(gaps, scale, tried)) > radius).sum()
        low, high = tried.take((first - 1).clamp_min(0)), tried.take(first.clamp_max(1024))
    return _weights(gaps, scale, high)


def _weights(gaps: Tensor, scale: Tensor, log_distance: Tensor) -> Tensor:
    """Weights (..., C) for each log(nu - max) (...,)."""
    inverse = 1 / (gaps / scale + log_distance.exp()[..., None])
    return inverse / inverse.sum(-1, keepdim=True)


def _divergence_from_uniform(weights: Tensor) -> Tensor:
    return -math.log(weights.shape[-1]) - log(weights).mean(-1)


def objective(
    adversarial_logits: Tensor, labels: Tensor, radius: float, targets: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """C/B sum_i w_{y_i} CE_i, a scalar, with the weights and the margins (C,) it stems from.

    In float32 at least, whatever the logits are: weights in bfloat16 would not add up to 1.
    """
    kind = torch.promote_types(adversarial_logits.dtype, torch.float32)
    logits = adversarial_logits.to(kind)
    margins, counts = class_margins(logits.detach().softmax(1), labels)
    weights = class_weights(margins, counts, radius).to(kind)
    losses = F.cross_entropy(logits, labels if targets is None else targets, reduction="none")
    return len(weights) * (weights[labels] * losses).mean(), weights, margins


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    logits = model(at.adversarial_examples(images, labels, step))
    loss, weights, margins = objective(logits, labels, knobs.radius, step.targets(labels))
    return Loss(
        loss, {"cross_entropy": loss.detach()}, classes={"weight": weights, "margin": margins}
    )
