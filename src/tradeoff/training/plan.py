"""What determines a training run, and what follows from it by arithmetic."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tradeoff.core.settings import AscentSettings, TrainSettings
from tradeoff.networks.ascent import InnerAttack
from tradeoff.networks.threat import Threat
from tradeoff.training.contract import Defense, Finetuning
from tradeoff.training.schedules import learning_rate


@dataclass(frozen=True)
class Plan:
    """Everything that determines a training run, next to the model and the data."""

    defense: Defense
    knobs: Any
    settings: TrainSettings
    threat: Threat
    seed: int

    @property
    def finetuning(self) -> Finetuning:
        """The defense's own epochs: all, if it says nothing else."""
        own = getattr(self.defense, "finetuning", None)
        return Finetuning(0, 1.0) if own is None else own(self.knobs, self.settings.epochs)

    def learning_rate(self, epoch: int, step: int, steps: int) -> float:
        """Of a step of an epoch with `steps` steps, all from 0.

        The schedule runs whole over the epochs of pretraining and anew over the defense's own. It
        is taken at the middle of the step, so that no schedule wastes its first or last one.
        """
        first, rate = self.finetuning
        begin, end = (first, self.settings.epochs) if epoch >= first else (0, first)
        peak = rate if epoch >= first else 1.0
        progress = ((epoch - begin) * steps + step + 0.5) / ((end - begin) * steps)
        return peak * learning_rate(self.settings, progress)


def inner_attack(threat: Threat, budget: AscentSettings) -> InnerAttack:
    """The inner attack of a budget given relative to epsilon."""
    return InnerAttack(threat, budget.steps, budget.relative_step_size * threat.epsilon)


def batches_per_epoch(images: int, batch_size: int) -> int:
    """A last batch of a single image is left out: BatchNorm cannot train on it."""
    return images // batch_size + (images % batch_size > 1)


def batch_sizes(images: int, batch_size: int) -> list[int]:
    """Those of an epoch, each once: the usual one, and that of the last batch if it differs."""
    last = images % batch_size
    return [size for size in (batch_size, last) if 1 < size <= images]


def micro_batches(images: int, size: int | None) -> list[slice]:
    """A batch in parts of about `size` images, none of a single one if it can be helped."""
    if size is None or images <= size:
        return [slice(0, images)]
    count = max(1, min(-(-images // size), images // 2))
    bounds = [images * part // count for part in range(count + 1)]
    return [slice(begin, end) for begin, end in pairwise(bounds)]
