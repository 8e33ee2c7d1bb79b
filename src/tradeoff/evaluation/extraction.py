"""Extraction: a substitute trained only on what a victim answers to queries.

The attacker of Papernot et al. (2017) has neither the victim's weights and gradients nor its
training images and labels: only a few images of the same kind, and of each image that is sent the
class that comes back. What fools the substitute then often fools the victim.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.attacks.outcome import batched_logits
from tradeoff.core.settings import ExtractionSettings
from tradeoff.networks.randomness import generator


class Extracted(NamedTuple):
    """What an attacker has after asking.

    Attributes:
        substitute: in eval mode, its parameters frozen.
        architecture: the substitute's.
        queries: how many images the victim was asked about.
        agreement: the share of others that it classifies as the victim does, in [0, 1].
    """

    substitute: nn.Module
    architecture: str
    queries: int
    agreement: float


def extract(
    victim: nn.Module,
    images: Tensor,
    substitute: nn.Module,
    settings: ExtractionSettings,
    *seed: object,
    others: Tensor,
) -> Extracted:
    """Train the substitute on the victim's answers alone (algorithm 1 of the paper).

    It is trained on what has been answered so far, then new queries are made from all of that, and
    so on: each augmentation doubles the queries. The weights go on from one training to the next,
    as in the authors' code.

    Args:
        victim: in eval mode; only the class that it predicts is used.
        images: the attacker's own, (N, C, H, W) in [0, 1].
        substitute: a network of the settings' architecture with random weights, which are changed.
        seed: of the order in which it sees the queries.
        others: images on which both are compared in the end, (M, C, H, W).
    """
    shuffle = generator("extraction", *seed)
    optimizer = torch.optim.Adam(substitute.parameters(), settings.learning_rate, fused=True)
    queries, answers = images, answer(victim, images, settings.batch_size)
    _train(substitute, optimizer, queries, answers, settings, shuffle)
    for _ in range(settings.augmentations):
        new = augmented(substitute, queries, answers, settings.step_size)
        queries = torch.cat([queries, new])
        answers = torch.cat([answers, answer(victim, new, settings.batch_size)])
        _train(substitute, optimizer, queries, answers, settings, shuffle)
    substitute.eval().requires_grad_(False)
    same = [answer(model, others, settings.batch_size) for model in (victim, substitute)]
    agreement = (same[0] == same[1]).float().mean().item()
    return Extracted(substitute, settings.architecture, len(queries), agreement)


@torch.no_grad()
def answer(victim: nn.Module, images: Tensor, batch_size: int) -> Tensor:
    """The class that the victim predicts of each image, int64 (N,)."""
    return batched_logits(victim, images, batch_size).argmax(1)


def augmented(substitute: nn.Module, queries: Tensor, answers: Tensor, step_size: float) -> Tensor:
    """A new query from each: a step to where the probability of its answer grows, within [0, 1].

    x + lambda * sgn(J[O(x)]), where J is the Jacobian of the substitute's probabilities and O(x)
    the victim's answer. The logarithm of a probability, minus the cross-entropy, has the same sign.
    """
    substitute.eval()
    points = queries.detach().requires_grad_()
    loss = F.cross_entropy(substitute(points), answers, reduction="sum")
    (slope,) = torch.autograd.grad(loss, points)
    return (queries - step_size * slope.sign()).clamp(0, 1)


def _train(
    substitute: nn.Module,
    optimizer: torch.optim.Optimizer,
    queries: Tensor,
    answers: Tensor,
    settings: ExtractionSettings,
    shuffle: torch.Generator,
) -> None:
    """Some epochs on the victim's answers, in batches as equal as can be: BatchNorm needs two."""
    substitute.train()
    batches = math.ceil(len(queries) / settings.batch_size)
    for _ in range(settings.epochs):
        order = torch.randperm(len(queries), generator=shuffle).to(queries.device)
        for batch in order.tensor_split(batches):
            optimizer.zero_grad()
            F.cross_entropy(substitute(queries[batch]), answers[batch]).backward()
            optimizer.step()
