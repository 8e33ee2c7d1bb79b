"""RS-FGSM, "fast is better than free" (Wong et al. 2020, algorithm 3): CE(f(x'), y).

    s  = a random point of the threat,    x' = the projection of s + alpha sign grad_s CE(f(s), y)

One step longer than epsilon from a random start. The authors attack in train mode; here, as for
every defense, the attacked network is in eval mode. Where it collapses all the same, as the
authors' own settings do on MNIST, the history tells when (`training.validation.collapse`).
"""

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.schema import Positive, Section
from tradeoff.networks.ascent import ascend_cross_entropy
from tradeoff.training.contract import Loss, Step

SELECT_BY = "robust"
ONE_STEP = True


class Knobs(Section):
    relative_step_size: Positive  # alpha over epsilon


def adversarial_examples(
    images: Tensor, labels: Tensor, step: Step, relative_step_size: float
) -> Tensor:
    """One step from a random point of the threat, (N, C, H, W)."""
    step_size = relative_step_size * step.inner.threat.radius
    one_step = replace(step.inner, steps=1, step_size=step_size)
    return ascend_cross_entropy(step.frozen, images, labels, step.random_start(images), one_step)


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    adversarial = adversarial_examples(images, labels, step, knobs.relative_step_size)
    loss = F.cross_entropy(model(adversarial), step.targets(labels))
    return Loss(loss, {"cross_entropy": loss.detach()})
