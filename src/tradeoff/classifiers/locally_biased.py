"""Locally biased smoothing (Anderson & Sojoudi 2022), for each class against the rest.

    g_i(x) + alpha y_i || grad g_i(x) ||_*

y_i is 1 where the nearest memory is of class i, else -1. g_i is the network's score of class i
against the rest, ln p_i / (1 - p_i); memories are images that training has not seen, nearest in l2;
the norm is dual to the threat's. The paper is about two classes: each class against the rest is
that form, and the largest score decides. Its radius needs a network whose gradient is Lipschitz,
and with ReLUs it is not: nothing is proved here.

An attack's gradient goes through the norm, not through the choice of the nearest memory.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.schema import BadParams, NonNegative, PositiveInt, Section
from tradeoff.networks.threat import Threat


class Knobs(Section):
    alpha: NonNegative
    memory: PositiveInt


def against_the_rest(logits: Tensor) -> Tensor:
    """ln p_i / (1 - p_i) of the softmax of logits, (N, classes)."""
    own = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
    others = logits[:, None].expand(-1, len(own), -1).masked_fill(own, float("-inf"))
    return logits - others.logsumexp(2)


class LocallyBiased(nn.Module):
    """Images (N, C, H, W) in [0, 1] to biased scores (N, classes)."""

    memory: Tensor
    memory_labels: Tensor
    dual: Tensor

    def __init__(self, network: nn.Module, alpha: float, count: int, image: Sequence[int]) -> None:
        super().__init__()
        self.network, self.alpha = network, alpha
        self.register_buffer("memory", torch.zeros(count, *image))
        self.register_buffer("memory_labels", torch.zeros(count, dtype=torch.long))
        self.register_buffer("dual", torch.tensor(1.0))  # the order of the dual norm

    def calibrate(self, images: Tensor, labels: Tensor, threat: Threat) -> None:
        """Remember the first of the validation images, and for which norm the bias is.

        Raises:
            BadParams: there are fewer of them.
        """
        if len(images) < len(self.memory):
            raise BadParams(
                f"params.yaml: lbrs.classifier.memory: is {len(self.memory)}; "
                f"validation has {len(images)} images"
            )
        self.memory.copy_(images[: len(self.memory)])
        self.memory_labels.copy_(labels[: len(self.memory)])
        self.dual.fill_(1.0 if threat.norm == "linf" else 2.0)

    def forward(self, images: Tensor) -> Tensor:
        is_differentiated = torch.is_grad_enabled() and images.requires_grad
        with torch.enable_grad():
            points = images if is_differentiated else images.detach().requires_grad_()
            scores = against_the_rest(self.network(points))
            slopes = [
                torch.autograd.grad(
                    score.sum(), points, create_graph=is_differentiated, retain_graph=True
                )[0]
                for score in scores.unbind(1)
            ]
        lengths = torch.stack([s.flatten(1).norm(float(self.dual), 1) for s in slopes], 1)
        signs = 2 * F.one_hot(self.nearest(images), scores.shape[1]) - 1
        biased = scores + self.alpha * signs * lengths
        return biased if is_differentiated else biased.detach()

    @torch.no_grad()
    def nearest(self, images: Tensor) -> Tensor:
        """The label of the memory nearest to each image in l2, (N,)."""
        places = torch.cdist(images.flatten(1), self.memory.flatten(1)).argmin(1)
        return self.memory_labels[places]


def build(
    networks: Sequence[nn.Module], knobs: Knobs, *, image: tuple[int, ...], seed: int
) -> nn.Module:
    """The one network, biased; `calibrate` comes before its use."""
    (network,) = networks
    return LocallyBiased(network, knobs.alpha, knobs.memory, image)
