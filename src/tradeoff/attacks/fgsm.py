"""Fast gradient sign method (Goodfellow et al. 2015, section 4): one step, of length epsilon.

With another length and a random start it is RS-FGSM (Wong et al. 2020).
"""

import torch
from torch import Tensor, nn

from tradeoff.attacks.outcome import Adversarial, check_inputs
from tradeoff.attacks.pgd import keyed_start
from tradeoff.core.schema import Positive, Section
from tradeoff.networks.ascent import InnerAttack, ascend_cross_entropy
from tradeoff.networks.threat import Threat


class Knobs(Section):
    relative_step_size: Positive = 1.0  # step size over epsilon
    random_start: bool = False


def fgsm(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    knobs: Knobs,
    threat: Threat,
    keys: Tensor | None = None,
) -> Adversarial:
    """x + epsilon sign(grad CE(f(x), y)); for l2 along the normalised gradient.

    Raises:
        ValueError: it is to begin at random, without keys.
    """
    check_inputs(model, images, labels)
    start = images
    if knobs.random_start:
        if keys is None:
            raise ValueError("a random start needs keys, one for each image")
        start = keyed_start(images, keys, threat)
    step_size = knobs.relative_step_size * threat.epsilon
    one_step = InnerAttack(threat, steps=1, step_size=step_size)
    adversarial = ascend_cross_entropy(model, images, labels, start, one_step)
    return Adversarial(adversarial, torch.ones_like(labels))
