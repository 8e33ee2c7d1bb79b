"""Certificates from bounds: the largest of several radii at which the prediction is proved."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tradeoff.certificates.bounds.graph import Graph, read
from tradeoff.certificates.bounds.objective import is_certified
from tradeoff.certificates.bounds.relaxation import Ball, ball
from tradeoff.certificates.ledger import Certificate
from tradeoff.networks.threat import Threat

# J of a graph over balls around images, for the labels (N,): see `objective.worst_logits`.
Worst = Callable[[Graph, Ball, Tensor], Tensor]


@torch.no_grad()
def at_fractions(
    worst: Worst,
    classifier: nn.Module,
    images: Tensor,
    threat: Threat,
    fractions: Sequence[float],
    batch_size: int,
) -> Certificate:
    """Predictions of images (N, C, H, W), and at which share of the threat's epsilon they hold.

    A radius is the largest fraction of epsilon that is proved, 0 if none is. Bounds are computed
    in double precision, so that rounding is far below what decides.
    """
    predictions = torch.cat([classifier(batch).argmax(1) for batch in images.split(batch_size)])
    radius = torch.zeros(len(images), dtype=torch.float64, device=images.device)
    for batch in torch.arange(len(images), device=images.device).split(batch_size):
        graph = read(classifier, images[batch].double())
        for fraction in sorted(fractions, reverse=True):
            if len(batch) == 0:
                break
            epsilon, labels = fraction * threat.epsilon, predictions[batch]
            around = ball(images[batch].double(), epsilon, threat.norm, clipped=True, graph=graph)
            held = is_certified(worst(graph, around, labels), labels)
            radius[batch[held]] = epsilon
            batch = batch[~held]
    return Certificate(predictions.cpu(), radius.cpu())


@torch.no_grad()
def proves(
    worst: Worst, model: nn.Module, images: Tensor, labels: Tensor, threat: Threat
) -> Tensor:
    """Whether the label is proved in the whole threat, (N,) bool: right, and nothing else near."""
    graph = read(model, images)
    around = ball(images, threat.epsilon, threat.norm, clipped=True, graph=graph)
    return is_certified(worst(graph, around, labels), labels)
