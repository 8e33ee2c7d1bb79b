"""Training on interval bounds (Gowal et al. 2018): kappa CE(f(x), y) + (1 - kappa) CE(J(x), y).

J is the worst logits that interval bounds allow. epsilon grows and kappa falls from 1 to `natural`
in the first part of training, both in a straight line.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.certificates.bounds.graph import read
from tradeoff.certificates.bounds.interval import intervals
from tradeoff.certificates.bounds.objective import is_certified, ramped, worst_logits
from tradeoff.certificates.bounds.relaxation import ball
from tradeoff.core.schema import Fraction, Section
from tradeoff.networks.ascent import full_precision
from tradeoff.training.contract import Loss, Step

SELECT_BY = "certified"
CERTIFICATE = "interval"
TRAINS_ON_BOUNDS = True  # on networks whose files say the same


class Knobs(Section):
    ramp: Fraction  # the share of training in which epsilon grows from 0
    natural: Fraction  # kappa after it


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    threat = step.inner.threat
    grown = ramped(1.0, step.progress, 0.0, knobs.ramp)
    kappa = 1 - grown * (1 - knobs.natural)
    natural = F.cross_entropy(model(images), step.targets(labels))
    with full_precision(images):
        graph = read(step.network, images)
        around = ball(images, grown * threat.epsilon, threat.norm, clipped=True, graph=graph)
        worst = worst_logits(intervals(graph, around), labels)
        robust = F.cross_entropy(worst, labels)
    parts = {
        "cross_entropy": natural.detach(),
        "robust_cross_entropy": robust.detach(),
        "certified": is_certified(worst.detach(), labels).float().mean(),
    }
    return Loss(kappa * natural + (1 - kappa) * robust, parts)
