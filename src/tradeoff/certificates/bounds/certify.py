"""Certificates from bounds: what is proved of images, and at which radii."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tradeoff.certificates.bounds.graph import Graph, read
from tradeoff.certificates.bounds.objective import is_certified
from tradeoff.certificates.bounds.relaxation import Ball, ball
from tradeoff.certificates.ledger import Certificate
from tradeoff.networks.threat import Threat

# J of a graph over balls around images, for the labels (N,): see `objective.worst_logits`.
Worst = Callable[[Graph, Ball, Tensor], Tensor]


@dataclass(frozen=True)
class Proof:
    """What a certificate by bounds offers, whatever the bounds are."""

    worst: Worst

    @torch.no_grad()
    def certify(
        self,
        classifier: nn.Module,
        images: Tensor,
        threat: Threat,
        *,
        keys: Tensor,
        batch_size: int,
        knobs: Any,
    ) -> Certificate:
        """Predictions of images (N, C, H, W), and at which share of the threat's epsilon they hold.

        A radius is the largest of `knobs.fractions` of epsilon that is proved, 0 if none is. Bounds
        are computed in double precision, so that rounding is far below what decides.

        Args:
            batch_size: images at once; memory grows with it.
        """
        predictions = torch.cat([classifier(batch).argmax(1) for batch in images.split(batch_size)])
        radius = torch.zeros(len(images), dtype=torch.float64, device=images.device)
        for batch in torch.arange(len(images), device=images.device).split(batch_size):
            graph = read(classifier, images[batch].double())
            for fraction in sorted(knobs.fractions, reverse=True):
                if len(batch) == 0:
                    break
                epsilon, labels = fraction * threat.epsilon, predictions[batch]
                around = ball(
                    images[batch].double(), epsilon, threat.norm, clipped=True, graph=graph
                )
                held = is_certified(self.worst(graph, around, labels), labels)
                radius[batch[held]] = epsilon
                batch = batch[~held]
        return Certificate(predictions.cpu(), radius.cpu())

    @torch.no_grad()
    def holds(self, model: nn.Module, images: Tensor, labels: Tensor, threat: Threat) -> Tensor:
        """Whether the label is proved in the whole threat, (N,) bool: it is right, and nothing near
        has another."""
        graph = read(model, images)
        around = ball(images, threat.epsilon, threat.norm, clipped=True, graph=graph)
        return is_certified(self.worst(graph, around, labels), labels)

    def holds_on_validation(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        threat: Threat,
        *,
        keys: Tensor,
        knobs: object,
    ) -> Tensor:
        """The same, whatever the images' keys and the defense's knobs."""
        return self.holds(model, images, labels, threat)
