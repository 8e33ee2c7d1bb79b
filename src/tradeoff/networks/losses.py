"""Losses and measures of logits that more than one defense or attack uses. Natural logarithms."""

import torch
import torch.nn.functional as F
from torch import Tensor

# Logits of one image differ in their last bits from batch to batch and from a network to its
# folded twin, by less than this share of the range of logits that compete.
ROUNDING = 1e-5
# What adding a constant to all logits costs a difference of two, as a share of it: half a unit in
# the last place of each.
CONSTANT_ROUNDING = torch.finfo(torch.float32).eps


def kl_divergence(clean_log_probabilities: Tensor, adversarial_logits: Tensor) -> Tensor:
    """KL(p || q) per sample, (N, C), (N, C) -> (N,), in log space.

    p is given by its logarithm, so that an attack computes it once; q by its logits.
    """
    adversarial = F.log_softmax(adversarial_logits, dim=1)
    return F.kl_div(adversarial, clean_log_probabilities, log_target=True, reduction="none").sum(1)


def entropy(logits: Tensor) -> Tensor:
    """Entropy of the predicted distribution per sample, (N, C) -> (N,), in [0, ln C] nats."""
    log_probabilities = F.log_softmax(logits, dim=1)
    return -(log_probabilities.exp() * log_probabilities).sum(1)


def margin(scores: Tensor, labels: Tensor) -> Tensor:
    """Score of the label minus the best other score, (N, C), (N,) -> (N,); below 0 is an error."""
    own = scores.gather(1, labels[:, None]).squeeze(1)
    others = scores.scatter(1, labels[:, None], float("-inf")).amax(1)
    return own - others


def competing_range(logits: Tensor) -> Tensor:
    """The scale of the logits that compete, (N, C) -> (N,): from the largest to the third largest.

    A constant added to all logits leaves it as it is, as do columns that never win, however low.
    Of two classes beside such columns the third does not compete: the largest's own size bounds it.
    """
    largest = logits.topk(min(3, logits.shape[1]), dim=1).values
    return (largest[:, 0] - largest[:, -1]).minimum(largest[:, 0].abs())


def resolution(logits: Tensor) -> Tensor:
    """What rounding may change of a margin between the largest logits, (N, C) -> (N,)."""
    size = logits.amax(1).abs()
    return ROUNDING * competing_range(logits) + CONSTANT_ROUNDING * size


def likeliest_others(logits: Tensor, labels: Tensor, count: int | None = None) -> Tensor:
    """The `count` most likely classes apart from the label, most likely first; None: all others.

    (N, classes), (N,) -> (N, min(count, classes - 1)) int64.
    """
    others = logits.shape[1] - 1
    lowest = torch.finfo(logits.dtype).min  # a logit of -inf is ahead of the label as well
    ranked = logits.clamp_min(lowest).scatter(1, labels[:, None], float("-inf"))
    return ranked.topk(others if count is None else min(count, others), dim=1).indices
