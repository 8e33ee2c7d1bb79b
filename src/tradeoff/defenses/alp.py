"""Adversarial logit pairing (Kannan et al. 2018, section 3.2), mixed with adversarial training.

    L(x, y) = (CE(f(x), y) + CE(f(x'), y)) / 2 + w || f(x) - f(x') ||^2 / C

with C classes, as the authors' code has it: their formula has no C, so its weight is w / C. No
side of the pair is a constant. Their published networks learn from examples made towards the least
likely class, which is what made them look robust (Engstrom et al. 2018: 0.1 % on ImageNet).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.schema import NonNegative, Section
from tradeoff.networks.ascent import ascend, ascend_cross_entropy
from tradeoff.training.contract import Loss, Step

SELECT_BY = "robust"


class Knobs(Section):
    """The weight, and where PGD leads: away from the label, away from the predicted class, which
    leaks no label, or towards the least likely class."""

    weight: NonNegative
    attack: Literal["label", "predicted", "least_likely"]


def adversarial_examples(images: Tensor, labels: Tensor, step: Step, attack: str) -> Tensor:
    """PGD from a random point of the threat, (N, C, H, W)."""
    start = step.random_start(images)
    if attack == "predicted":
        labels = step.eval_logits(images).argmax(1)
    if attack != "least_likely":
        return ascend_cross_entropy(step.frozen, images, labels, start, step.inner)
    targets = step.eval_logits(images).argmin(1)

    def likelihood(candidates: Tensor) -> Tensor:
        return -F.cross_entropy(step.frozen(candidates), targets, reduction="none")

    return ascend(likelihood, images, start, step.inner)


def objective(
    clean_logits: Tensor, adversarial_logits: Tensor, labels: Tensor, weight: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, a scalar, and its two parts; logits are (N, C)."""
    cross_entropy = torch.stack(
        [F.cross_entropy(logits, labels) for logits in (clean_logits, adversarial_logits)]
    ).mean()
    pairing = F.mse_loss(clean_logits, adversarial_logits)
    parts = {"cross_entropy": cross_entropy.detach(), "pairing": pairing.detach()}
    return cross_entropy + weight * pairing, parts


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    adversarial = adversarial_examples(images, labels, step, knobs.attack)
    return Loss(*objective(model(images), model(adversarial), step.targets(labels), knobs.weight))
