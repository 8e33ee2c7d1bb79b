"""PGD against a classifier that may reject an image: it must be wrong and not suspicious.

    minimise  max(0, z_y - max_{j != y} z_j + kappa) + max(0, score(x') - threshold)

in the threat, the form in which He et al. (2017) attack feature squeezing. It is no entry of a
suite: whatever suite has `pgd` attacks a classifier that rejects once more, by this attack with the
same budget (`suites.run`).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tradeoff.attacks.outcome import Adversarial, check_inputs, verdict
from tradeoff.attacks.pgd import Knobs as Budget
from tradeoff.attacks.pgd import keyed_start
from tradeoff.networks.losses import ROUNDING, margin
from tradeoff.networks.threat import Threat, step_up

CONFIDENCE = 0.1  # kappa, by how many logits the label must lose


def evading(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    knobs: Budget,
    threat: Threat,
    keys: Tensor,
    *,
    score: Callable[[Tensor], Tensor],
    threshold: float,
) -> Adversarial:
    """The first image that is misclassified and accepted, else the one of least penalty.

    Args:
        score: the rejection scores (N,) of images, differentiable.
        threshold: above it an image is rejected.
    """
    check_inputs(model, images, labels)
    best, penalty = images.clone(), torch.full_like(images[:, 0, 0, 0], torch.inf)
    queries = torch.zeros_like(labels)
    # Below the threshold by more than the twin's rounding, as with labels.
    accepted = threshold - ROUNDING * max(1.0, abs(threshold))
    step_size = knobs.relative_step_size * threat.epsilon
    for restart in range(knobs.restarts):
        rows = torch.where(penalty > 0)[0]  # the samples that are still attacked
        current = keyed_start(images[rows], keys[rows], threat, restart)
        for _ in range(knobs.steps + 1):
            if len(rows) == 0:
                break
            points = current.detach().requires_grad_()
            with torch.enable_grad():
                logits = model(points)
                excess = (score(points) - accepted).clamp_min(0)
                loss = (margin(logits, labels[rows]) + CONFIDENCE).clamp_min(0) + excess
            gradient = torch.autograd.grad(loss.sum(), points)[0]
            evades = verdict(logits.detach(), labels[rows]).beyond_rounding & (excess == 0)
            found = loss.detach().masked_fill(evades, 0)
            better = found < penalty[rows]
            best[rows[better]], penalty[rows[better]] = current[better], found[better]
            queries[rows] += 1
            rows, current, gradient = rows[~evades], current[~evades], gradient[~evades]
            current = step_up(current, -gradient, images[rows], threat, step_size)
    return Adversarial(best, queries)
