"""The record of a minimum-norm search: of each sample the nearest image that fools the model."""

import torch
from torch import Tensor

from tradeoff.attacks.outcome import Attempt, improvements, verdict
from tradeoff.networks.threat import Norm, perturbation_norm


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
        """Take over the candidates that surely fool the model from nearer; count one pass for each.

        Args:
            rows: (M,) the sample that each candidate belongs to; a sample may have several.
            candidates: (M, C, H, W) in [0, 1].
            logits: (M, classes), of exactly these candidates.
            confidence: the margin must be at most -confidence, in logits.

        Returns:
            Which candidates surely fool the model, (M,) bool; the clean image need not surely.
        """
        self.queries.index_add_(0, rows, torch.ones_like(rows))
        distance = perturbation_norm(candidates - self.clean[rows], self.norm)
        said = verdict(logits, self.labels[rows])
        enough = said.surely & (said.margin <= -confidence)
        fooled = enough | (said.fooled & (distance == 0))
        taken, self.distance = improvements(rows, distance.where(fooled, torch.inf), self.distance)
        self.images[rows[taken]] = candidates[taken]
        return fooled

    def attempt(self) -> Attempt:
        return Attempt(self.images, self.queries)
