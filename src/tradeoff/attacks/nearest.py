"""The record of a minimum-norm search: of each sample the nearest image that fools the model."""

import torch
from torch import Tensor

from tradeoff.attacks.outcome import Adversarial, improvements, verdict
from tradeoff.networks.threat import Norm, perturbation_norm


class Nearest:
    """The nearest image of each sample that fools the model so far, and the passes it took.

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
        """Keep each candidate that fools the model from nearer, and count a pass for every one.

        A candidate has to fool beyond rounding, by `confidence`; the clean image only has to fool.

        Args:
            rows: (M,) the sample that each candidate belongs to; a sample may have several.
            candidates: (M, C, H, W) in [0, 1].
            logits: (M, classes), of exactly these candidates.
            confidence: the margin must be at most -confidence, in logits.

        Returns:
            Which candidates fool the model in this sense, (M,) bool.
        """
        self.queries.index_add_(0, rows, torch.ones_like(rows))
        distance = perturbation_norm(candidates - self.clean[rows], self.norm)
        fools, beyond_rounding, margins = verdict(logits, self.labels[rows])
        fooled = (beyond_rounding & (margins <= -confidence)) | (fools & (distance == 0))
        nearer, self.distance = improvements(rows, distance.where(fooled, torch.inf), self.distance)
        self.images[rows[nearer]] = candidates[nearer]
        return fooled

    def adversarial(self) -> Adversarial:
        """The images that the search ends with, and the queries that it took."""
        return Adversarial(self.images, self.queries)
