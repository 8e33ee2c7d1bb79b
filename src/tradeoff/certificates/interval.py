"""A cheap certificate for any network that bounds can be computed of: by intervals.

Interval bounds (Gowal et al. 2018), and one pass back with lines between them (CROWN-IBP, Zhang et
al. 2020): J is the lesser of both. Of networks with max-pooling there are the intervals alone. On
networks that were not trained for it, it proves nothing but at a small share of epsilon.
"""

from torch import Tensor, nn

from tradeoff.certificates.bounds.certify import at_fractions, proves
from tradeoff.certificates.bounds.graph import Graph, Maximum
from tradeoff.certificates.bounds.interval import from_intervals, intervals
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
    """Predictions of images (N, C, H, W), and which of `fractions` of epsilon is proved."""
    return at_fractions(worst, classifier, images, threat, knobs.fractions, batch_size)


def worst(graph: Graph, around: Ball, labels: Tensor) -> Tensor:
    boxes = intervals(graph, around)
    found = worst_logits(boxes, labels)
    if any(isinstance(node.layer, Maximum) for node in graph.nodes):
        return found
    return found.minimum(worst_logits(from_intervals(boxes), labels))


def holds_on_validation(
    model: nn.Module, images: Tensor, labels: Tensor, threat: Threat, *, keys: Tensor, knobs: object
) -> Tensor:
    """Whether the label is proved in the whole threat, (N,) bool."""
    return proves(worst, model, images, labels, threat)
