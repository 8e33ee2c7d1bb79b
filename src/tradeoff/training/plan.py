"""What determines a training run, and what follows from it by arithmetic."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tradeoff.attacks.pgd import Search
from tradeoff.core.study import AscentSettings, TrainSettings
from tradeoff.core.threat import Threat
from tradeoff.training.contract import Defense


@dataclass(frozen=True)
class Plan:
    """Everything that determines a training run, next to the model and the data."""

    defense: Defense
    knobs: Any
    settings: TrainSettings
    threat: Threat
    seed: int


def search(threat: Threat, budget: AscentSettings) -> Search:
    """The inner attack of a budget given relative to epsilon."""
    return Search(threat, budget.steps, budget.relative_step_size * threat.epsilon)


def batches_per_epoch(images: int, batch_size: int) -> int:
    """A last batch of a single image is left out: BatchNorm cannot train on it."""
    return images // batch_size + (images % batch_size > 1)


def micro_batches(images: int, size: int | None) -> list[slice]:
    """A batch in parts of about `size` images, none of a single one if it can be helped."""
    if size is None or images <= size:
        return [slice(0, images)]
    count = max(1, min(-(-images // size), images // 2))
    bounds = [images * part // count for part in range(count + 1)]
    return [slice(begin, end) for begin, end in pairwise(bounds)]
