"""A cheap certificate for any network that bounds can be computed of: by intervals.

Interval bounds (Gowal et al. 2018), and one pass back with lines between them (CROWN-IBP, Zhang et
al. 2020): J is the lesser of both. Of networks with max-pooling there are the intervals alone. On
networks that were not trained for it, it proves nothing but at a small share of epsilon.
"""

from torch import Tensor

from tradeoff.certificates.bounds.certify import Proof
from tradeoff.certificates.bounds.graph import Graph, Maximum
from tradeoff.certificates.bounds.interval import from_intervals, intervals
from tradeoff.certificates.bounds.objective import worst_logits
from tradeoff.certificates.bounds.relaxation import Ball
from tradeoff.certificates.outer_polytope import CERTAIN, CLASSIFIERS, NORMS, Knobs

__all__ = ["CERTAIN", "CLASSIFIERS", "NORMS", "Knobs"]


def worst(graph: Graph, around: Ball, labels: Tensor) -> Tensor:
    boxes = intervals(graph, around)
    found = worst_logits(boxes, labels)
    if any(isinstance(node.layer, Maximum) for node in graph.nodes):
        return found
    return found.minimum(worst_logits(from_intervals(boxes), labels))


proof = Proof(worst)
certify = proof.certify
holds_on_validation = proof.holds_on_validation
