"""The certificate of the outer polytope (Wong & Kolter 2018, corollaries 1 and 2).

The prediction p holds in the whole ball if J_j < 0 for every other class j, J being the bound of
the dual network with p in the label's place. Where the certificate fails, the image is flagged: it
may be an attack by the radius or less; where it holds, it is none.
"""

from torch import Tensor

from tradeoff.certificates.bounds.certify import Proof
from tradeoff.certificates.bounds.exact import exact
from tradeoff.certificates.bounds.graph import Graph
from tradeoff.certificates.bounds.objective import worst_logits
from tradeoff.certificates.bounds.relaxation import Ball
from tradeoff.core.schema import Fraction, Section

NORMS = ("linf", "l2")
CLASSIFIERS = ("plain",)
CERTAIN = True  # of the classifier that is attacked: `summarize` checks that no attack breaks it


class Knobs(Section):
    fractions: list[Fraction]


def worst(graph: Graph, around: Ball, labels: Tensor) -> Tensor:
    return worst_logits(exact(graph, around), labels)


proof = Proof(worst)
certify = proof.certify
holds = proof.holds
holds_on_validation = proof.holds_on_validation
