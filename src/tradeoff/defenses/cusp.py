"""CuSP (Kamath et al. 2021): adversarial training on rotated images, by a curriculum.

    L = max CE(f(x'), y)    over || x' - R(x) || <= epsilon_t,    R(x) rotated by up to theta_t

Each image is rotated by an angle of its own, uniform within theta_t, about its centre, with black
corners; then PGD begins anywhere in the ball of epsilon_t around it, with steps as long in each
phase. Both grow where the authors lower the learning rate: so train with `schedule: step` and
milestones at 74/120, 89/120 and 99/120. `angle` is theta of the last phase.
"""

from dataclasses import replace
from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tradeoff.core.schema import NonNegative, Section
from tradeoff.defenses import at
from tradeoff.networks.spatial import rotate
from tradeoff.networks.threat import Threat
from tradeoff.training.contract import Loss, Step

SELECT_BY = "robust"

# From which share of training on: theta and epsilon as shares of those of the last phase.
PHASES = ((0.0, 2 / 3, 1 / 4), (74 / 120, 5 / 6, 1 / 2), (89 / 120, 1.0, 1.0))


class Knobs(Section):
    angle: Annotated[NonNegative, Field(le=180)]
    interpolation: Literal["bilinear", "nearest"]


def phase(progress: float) -> tuple[float, float]:
    """Theta and epsilon as shares of the last phase's, at a share of training in [0, 1)."""
    _, angle, radius = max(each for each in PHASES if each[0] <= progress)
    return angle, radius


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    angle, radius = phase(step.progress)
    within = images.new_empty(step.batch or len(images)).uniform_(-1, 1, generator=step.generator)
    rotated = rotate(images, angle * knobs.angle * within[step.part], knobs.interpolation)
    threat = step.inner.threat
    inner = replace(step.inner, threat=Threat(threat.norm, radius * threat.epsilon))
    adversarial = at.adversarial_examples(rotated, labels, replace(step, inner=inner))
    loss = F.cross_entropy(model(adversarial), step.targets(labels))
    return Loss(loss, {"cross_entropy": loss.detach()})
