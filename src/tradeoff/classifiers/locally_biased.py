"""Locally biased smoothing (Anderson & Sojoudi 2022), for each class against the rest.

    g_i(x) + alpha y_i || grad g_i(x) ||_*

y_i is 1 where the nearest memory is of class i, else -1. g_i is the network's score of class i
against the rest, ln p_i / (1 - p_i); memories are images that training has not seen, nearest in l2;
the norm is dual to the threat's. The paper is about two classes: each class against the rest is
that form, and the largest score decides. Its radius needs two classes and a network whose gradient
is Lipschitz, which with ReLUs it is not: see `certificates.lbrs`.

An attack's gradient goes through the norm, not through the choice of the nearest memory, and the
bias is so large that a cross-entropy of these scores is 0 at most images. So an attack climbs
`surrogate()`: it says the same, on a scale of its own at each image, and near memories share in the
choice in its gradient.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.schema import BadParams, NonNegative, PositiveInt, Section
from tradeoff.networks.gradients import with_gradient_of
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
        return self.decided(images, *self.parts(images))

    def decided(self, images: Tensor, scores: Tensor, lengths: Tensor) -> Tensor:
        """The biased scores of images, (N, classes), from their `parts`."""
        return self.biased(scores, lengths, F.one_hot(self.nearest(images), scores.shape[1]))

    def parts(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The scores against the rest, and the dual norms of their gradients, (N, classes) each."""
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
        return (scores, lengths) if is_differentiated else (scores.detach(), lengths.detach())

    def biased(self, scores: Tensor, lengths: Tensor, chosen: Tensor) -> Tensor:
        """The biased scores, where the nearest memory is of the classes `chosen`, (N, classes)."""
        return scores + self.alpha * (2 * chosen - 1) * lengths

    def squares(self, images: Tensor) -> Tensor:
        """How far each memory is, squared, (N, memories)."""
        return torch.cdist(images.flatten(1), self.memory.flatten(1)).square()

    @torch.no_grad()
    def nearest(self, images: Tensor) -> Tensor:
        """The label of the memory nearest to each image in l2, (N,)."""
        return self.memory_labels[self.squares(images).argmin(1)]

    def surrogate(self) -> nn.Module:
        return _Surrogate(self).eval()

    def undefended(self) -> nn.Module:
        return self.network


class _Surrogate(nn.Module):
    """What an attack climbs: the biased scores over the largest of them, so that no loss saturates.

    In the gradient memories share in the choice of the class by the softmax of -distance^2 / t, t
    being by how much the nearest one of another class is farther than the nearest: so an image is
    nowhere far from changing it.
    """

    def __init__(self, model: LocallyBiased) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        scores, lengths = self.model.parts(images)
        exact = self.model.decided(images, scores, lengths)
        climbed = self.model.biased(scores, lengths, self.shares(images, scores.shape[1]))
        scale = exact.detach().abs().amax(1, keepdim=True).clamp_min(1)
        return with_gradient_of(climbed / scale, exact / scale)

    def shares(self, images: Tensor, classes: int) -> Tensor:
        """How much of the choice is each class's, (N, classes)."""
        squares, labels = self.model.squares(images), self.model.memory_labels
        with torch.no_grad():
            own = labels == self.model.nearest(images)[:, None]
            gap = squares.masked_fill(own, float("inf")).amin(1) - squares.amin(1)
        weights = (-squares / gap.clamp_min(1e-6)[:, None]).softmax(1)
        return weights @ F.one_hot(labels, classes).to(weights.dtype)


def build(
    networks: Sequence[nn.Module], knobs: Knobs, *, image: tuple[int, ...], seed: int
) -> nn.Module:
    """The one network, biased; `calibrate` comes before its use."""
    (network,) = networks
    return LocallyBiased(network, knobs.alpha, knobs.memory, image)
