"""Fast gradient sign method (Goodfellow et al. 2015, section 4): one step of length epsilon."""

import torch
from torch import Tensor, nn

from tradeoff.attacks.outcome import Adversarial, check_inputs
from tradeoff.core.schema import Section
from tradeoff.networks.ascent import InnerAttack, ascend_cross_entropy
from tradeoff.networks.threat import Threat


class Knobs(Section):
    """FGSM has no knobs: one step, of length epsilon."""


def fgsm(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    _knobs: Knobs,
    threat: Threat,
    *_unused: object,
) -> Adversarial:
    """x + epsilon sign(grad CE(f(x), y)); for l2 along the normalised gradient."""
    check_inputs(model, images, labels)
    one_step = InnerAttack(threat, steps=1, step_size=threat.epsilon)
    adversarial = ascend_cross_entropy(model, images, labels, images, one_step)
    return Adversarial(adversarial, torch.ones_like(labels))
