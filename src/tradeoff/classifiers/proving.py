"""A network that rejects what it cannot prove (Wong & Kolter 2018, corollary 2).

score(x) = max over j != p of J_j(x), J the dual network's bound of how far logit j can rise above
that of the prediction p within epsilon of x. Below 0 no image so near has another class. So of what
is accepted below 0 nothing is an attack, by epsilon or less, on an image that the network
classifies otherwise; clean images may be rejected.

A threshold that 5 % of the validation images exceed keeps that promise only if it is below 0.
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from tradeoff.certificates.bounds.exact import exact
from tradeoff.certificates.bounds.graph import read
from tradeoff.certificates.bounds.objective import worst_logits
from tradeoff.certificates.bounds.relaxation import ball
from tradeoff.core.schema import Positive, Section
from tradeoff.networks.threat import Threat

CODE = ("certificates/bounds/*.py",)


class Knobs(Section):
    norm: Literal["linf", "l2"]
    epsilon: Positive


class Proving(nn.Module):
    """Images (N, C, H, W) in [0, 1] to the network's logits (N, classes)."""

    def __init__(self, network: nn.Module, threat: Threat) -> None:
        super().__init__()
        self.network, self.threat = network, threat

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits

    def rejection_score(self, images: Tensor) -> Tensor:
        """By how much another class may win within epsilon, at most, in logits, (N,)."""
        labels, graph = self(images).argmax(1), read(self.network, images)
        around = ball(images, self.threat.epsilon, self.threat.norm, clipped=True, graph=graph)
        worst = worst_logits(exact(graph, around), labels)
        return worst.scatter(1, labels[:, None], float("-inf")).amax(1)


def build(
    networks: Sequence[nn.Module], knobs: Knobs, *, image: tuple[int, ...], seed: int
) -> nn.Module:
    (network,) = networks
    return Proving(network, Threat(knobs.norm, knobs.epsilon))
