"""Basic iterative method (Kurakin et al. 2017, section 2.2): PGD without a random start."""

import torch
from torch import Tensor, nn

from tradeoff.attacks.outcome import Adversarial, check_inputs
from tradeoff.core.schema import Positive, PositiveInt, Section
from tradeoff.networks.ascent import InnerAttack, ascend_cross_entropy
from tradeoff.networks.threat import Threat


class Knobs(Section):
    steps: PositiveInt
    relative_step_size: Positive  # step size over epsilon


def bim(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    knobs: Knobs,
    threat: Threat,
    *_unused: object,
) -> Adversarial:
    """The last iterate of projected gradient steps from the image; it draws no random numbers."""
    check_inputs(model, images, labels)
    ascent = InnerAttack(threat, knobs.steps, knobs.relative_step_size * threat.epsilon)
    last = ascend_cross_entropy(model, images, labels, images, ascent)
    return Adversarial(last, torch.full_like(labels, knobs.steps))
