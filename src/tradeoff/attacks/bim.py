"""Basic iterative method (Kurakin et al. 2017, section 2.2): PGD without a random start."""

import torch
from torch import Tensor, nn

from tradeoff.attacks.outcome import Attempt, check_inputs
from tradeoff.core.schema import Positive, PositiveInt, Section
from tradeoff.networks.ascent import InnerAttack, ascend_cross_entropy
from tradeoff.networks.threat import Threat


class Knobs(Section):
    steps: PositiveInt
    relative_step_size: Positive


def bim(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    *,
    steps: int = 10,
    relative_step_size: float = 0.25,
) -> Attempt:
    """The last iterate of `steps` projected gradient steps from the image. No randomness."""
    check_inputs(model, images, labels)
    search = InnerAttack(threat, steps, relative_step_size * threat.epsilon)
    adversarial = ascend_cross_entropy(model, images, labels, images, search)
    return Attempt(adversarial, torch.full_like(labels, steps))
