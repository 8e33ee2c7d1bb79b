"""Losses and measures of logits that more than one defense or attack uses. Natural logarithms."""

import torch.nn.functional as F
from torch import Tensor


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


def likeliest_others(logits: Tensor, labels: Tensor, count: int | None = None) -> Tensor:
    """The `count` most likely classes apart from the label, most likely first; None: all others.

    (N, classes), (N,) -> (N, min(count, classes - 1)) int64.
    """
    others = logits.shape[1] - 1
    ranked = logits.scatter(1, labels[:, None], float("-inf"))
    return ranked.topk(others if count is None else min(count, others), dim=1).indices
