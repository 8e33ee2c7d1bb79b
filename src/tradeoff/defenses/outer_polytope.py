"""Training on the outer polytope (Wong & Kolter 2018; Wong et al. 2018): min CE(J(x), y).

J_j bounds how far any image of the threat can raise logit j above the label's, by one backward
pass through the dual network; so the loss is above the worst cross-entropy of the threat. With
`projections` the bounds of hidden units are estimated by that many random vectors, which costs far
less on large networks; the certificate is exact in any case.

The gradient goes through the bounds of every layer. At the first weights the bounds of the whole
threat would be too loose to learn from: epsilon grows to its value in the first part of training.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.certificates.bounds.exact import exact
from tradeoff.certificates.bounds.graph import read
from tradeoff.certificates.bounds.objective import is_certified, ramped, worst_logits
from tradeoff.certificates.bounds.projected import projected
from tradeoff.certificates.bounds.relaxation import ball
from tradeoff.core.schema import Fraction, PositiveInt, Section
from tradeoff.networks.ascent import full_precision
from tradeoff.training.contract import Loss, Step

SELECT_BY = "certified"
CERTIFICATE = "outer_polytope"
TRAINS_ON_BOUNDS = True  # on networks whose files say the same


class Knobs(Section):
    start: Fraction  # epsilon of the first step, as a share of the threat's
    ramp: Fraction  # the share of training in which epsilon grows
    projections: PositiveInt | None
    clipped: bool  # whether what lies beyond [0, 1] is left out of a linf ball


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    threat = step.inner.threat
    epsilon = ramped(threat.epsilon, step.progress, knobs.start, knobs.ramp)
    with full_precision(images):
        graph = read(step.network, images)
        around = ball(images, epsilon, threat.norm, clipped=knobs.clipped, graph=graph)
        if knobs.projections is None:
            polytope = exact(graph, around)
        else:
            polytope = projected(graph, around, knobs.projections, step.generator)
        worst = worst_logits(polytope, labels)
        loss = F.cross_entropy(worst, labels)
    certified = is_certified(worst.detach(), labels).float().mean()
    return Loss(loss, {"robust_cross_entropy": loss.detach(), "certified": certified})
