"""What determines a training run, and what follows from it by arithmetic."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from torch import nn

from tradeoff.core.settings import AscentSettings, TrainSettings
from tradeoff.networks.ascent import InnerAttack
from tradeoff.networks.threat import Threat
from tradeoff.training.schedules import learning_rate


@dataclass(frozen=True)
class Plan:
    """Everything that determines a training run, next to the model and the data.

    Attributes:
        defense: the module of a defense (`training.contract`).
        bases: by role the classifiers that it stands on, frozen, in eval mode, on the device.
    """

    defense: Any
    knobs: Any
    settings: TrainSettings
    threat: Threat
    seed: int
    bases: Mapping[str, nn.Module] = field(default_factory=dict)

    @property
    def select_by(self) -> str:
        """The accuracy on validation that chooses the epoch: robust, natural or certified."""
        name: str = getattr(self.defense, "SELECT_BY", "natural")
        return name

    @property
    def one_step(self) -> bool:
        """Whether the defense trains on one step, which may collapse."""
        return bool(getattr(self.defense, "ONE_STEP", False))

    def threat_at(self, epoch: int, step: int, steps: int) -> Threat:
        """The threat of the inner attack in a step, counted as for `learning_rate`: its epsilon
        grows in proportion to the steps until the share `epsilon_warmup` of training is done."""
        progress = (epoch * steps + step + 0.5) / (self.settings.epochs * steps)
        if progress >= self.settings.epsilon_warmup:
            return self.threat
        share = progress / self.settings.epsilon_warmup
        return replace(self.threat, epsilon=share * self.threat.epsilon)

    def learning_rate(self, epoch: int, step: int, steps: int) -> float:
        """The learning rate of step `step` of `steps` in epoch `epoch`, both counted from 0.

        It is taken at the middle of the step, so that no schedule wastes its first or last one.
        """
        progress = (epoch * steps + step + 0.5) / (self.settings.epochs * steps)
        return learning_rate(self.settings, progress)


def inner_attack(threat: Threat, budget: AscentSettings) -> InnerAttack:
    """The inner attack of a budget given relative to epsilon."""
    return InnerAttack(threat, budget.steps, budget.relative_step_size * threat.epsilon)


def batches_per_epoch(images: int, batch_size: int) -> int:
    """The number of batches; a last one of a single image is left out, as BatchNorm needs two."""
    return images // batch_size + (images % batch_size > 1)


def batch_sizes(images: int, batch_size: int) -> list[int]:
    """The distinct batch sizes of an epoch: the usual one and, if smaller, the last batch's."""
    last = images % batch_size
    return [size for size in (batch_size, last) if 1 < size <= images]


def micro_batches(images: int, size: int | None) -> list[slice]:
    """A batch in parts of about `size` images, none of a single one if it can be helped."""
    if size is None or images <= size:
        return [slice(0, images)]
    count = max(1, min(-(-images // size), images // 2))
    bounds = [images * part // count for part in range(count + 1)]
    return [slice(begin, end) for begin, end in pairwise(bounds)]
