"""The certificate of the outer polytope (Wong & Kolter 2018, corollaries 1 and 2).

The prediction p holds in the whole ball if J_j < 0 for every other class j, J being the bound of
the dual network with p in the label's place. Where the certificate fails, the image is flagged: it
may be an attack by the radius or less; where it holds, it is none.
"""

from torch import Tensor, nn

from tradeoff.certificates.bounds.certify import at_fractions, proves
from tradeoff.certificates.bounds.exact import exact
from tradeoff.certificates.bounds.graph import Graph
from tradeoff.certificates.bounds.objective import worst_logits
from tradeoff.certificates.bounds.relaxation import Ball
from tradeoff.certificates.ledger import Certificate
from tradeoff.core.schema import Fraction, Section
from tradeoff.networks.threat import Threat

NORMS = ("linf", "l2")
CLASSIFIERS = ("plain",)
CERTAIN = True  # of the classifier that is attacked: `summarize` checks that no attack breaks it


class Knobs(Section):
    fractions: list[Fraction]


def certify(
    classifier: nn.Module,
    images: Tensor,
    threat: Threat,
    *,
    keys: Tensor,
    batch_size: int,
    knobs: Knobs,
) -> Certificate:
    """Predictions of images (N, C, H, W), and which of `fractions` of epsilon is proved.

    Args:
        batch_size: images at once; memory grows with it.
    """
    return at_fractions(worst, classifier, images, threat, knobs.fractions, batch_size)


def worst(graph: Graph, around: Ball, labels: Tensor) -> Tensor:
    return worst_logits(exact(graph, around), labels)


def holds(model: nn.Module, images: Tensor, labels: Tensor, threat: Threat) -> Tensor:
    """Whether the label is proved in the whole threat, (N,) bool."""
    return proves(worst, model, images, labels, threat)


def holds_on_validation(
    model: nn.Module, images: Tensor, labels: Tensor, threat: Threat, *, keys: Tensor, knobs: object
) -> Tensor:
    """The same, whatever the images' keys and the defense's knobs."""
    return holds(model, images, labels, threat)
