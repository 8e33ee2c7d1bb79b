"""The record of a minimum-norm search: of each sample the nearest image that fools the model."""

import torch
from torch import Tensor

from tradeoff.core.attempt import Attempt, is_fooled
from tradeoff.core.losses import margin
from tradeoff.core.threat import Norm, perturbation_norm

# Logits of one image differ in their last bits from batch to batch. A candidate counts only if
# it wins by more than this share of the largest logit, so that a later check agrees.
ROUNDING = 1e-5


class Nearest:
    """The nearest adversarial image found of each sample, and the forward passes it took.

    Attributes:
        images: (N, C, H, W), the nearest so far; the clean image while there is none.
        distance: (N,), its distance from the clean image; infinite while there is none.
        queries: (N,) int64.
    """

    def __init__(self, images: Tensor, labels: Tensor, norm: Norm) -> None:
        self.clean, self.labels, self.norm = images, labels, norm
        self.images = images.clone()
        self.distance = images.new_full((len(images),), torch.inf)
        self.queries = torch.zeros_like(labels)

    def update(
        self, rows: Tensor, candidates: Tensor, logits: Tensor, confidence: float = 0.0
    ) -> Tensor:
        """Take over the candidates that fool the model from nearer; count one pass for each.

        Args:
            rows: (M,) the sample that each candidate belongs to; a sample may have several.
            candidates: (M, C, H, W) in [0, 1].
            logits: (M, classes), of exactly these candidates.
            confidence: the margin must be at most -confidence, in logits.

        Returns:
            Which candidates fool the model, (M,) bool.
        """
        self.queries.index_add_(0, rows, torch.ones_like(rows))
        needed = (ROUNDING * logits.abs().amax(1)).clamp_min(confidence)
        distance = perturbation_norm(candidates - self.clean[rows], self.norm)
        labels = self.labels[rows]
        fooled = is_fooled(logits, labels) & ((margin(logits, labels) <= -needed) | (distance == 0))
        distance = distance.where(fooled, torch.inf)
        nearest = self.distance.scatter_reduce(0, rows, distance, "amin")
        improving = fooled & (distance < self.distance[rows]) & (distance == nearest[rows])
        # Two candidates of a sample may be equally near: the first of them is taken.
        positions = torch.arange(len(rows), device=rows.device)
        first = torch.full_like(self.queries, len(rows))
        first = first.scatter_reduce(0, rows[improving], positions[improving], "amin")
        taken = first[first < len(rows)]
        self.images[rows[taken]] = candidates[taken]
        self.distance = nearest
        return fooled

    def attempt(self) -> Attempt:
        return Attempt(self.images, self.queries)
