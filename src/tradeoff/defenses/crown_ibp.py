"""CROWN-IBP (Zhang et al. 2020): min CE(J(x), y) with J between two bounds of different cost.

    J = beta J_dual + (1 - beta) J_interval,    beta from 1 to 0

J_interval are interval bounds; J_dual is one backward pass with CROWN's lines around each ReLU,
between interval bounds: tighter, so that training begins well, where intervals are too loose.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.certificates.bounds.graph import read
from tradeoff.certificates.bounds.interval import from_intervals, intervals
from tradeoff.certificates.bounds.objective import is_certified, ramped, worst_logits
from tradeoff.certificates.bounds.relaxation import ball
from tradeoff.core.schema import Fraction, Section
from tradeoff.networks.ascent import full_precision
from tradeoff.training.contract import Loss, Step

SELECT_BY = "certified"
CERTIFICATE = "interval"
TRAINS_ON_BOUNDS = True  # on networks whose files say the same


class Knobs(Section):
    ramp: Fraction  # the share of training in which epsilon grows from 0 and beta falls to 0


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    threat = step.inner.threat
    grown = ramped(1.0, step.progress, 0.0, knobs.ramp)
    with full_precision(images):
        graph = read(step.network, images)
        around = ball(images, grown * threat.epsilon, threat.norm, clipped=True, graph=graph)
        boxes = intervals(graph, around)
        worst = worst_logits(boxes, labels)
        if grown < 1:
            dual = worst_logits(from_intervals(boxes), labels)
            worst = grown * worst + (1 - grown) * dual
        loss = F.cross_entropy(worst, labels)
    certified = is_certified(worst.detach(), labels).float().mean()
    return Loss(loss, {"robust_cross_entropy": loss.detach(), "certified": certified})
