"""Learning rates over training, as functions of the share of optimisation steps done."""

import math

from tradeoff.core.settings import TrainSettings


def learning_rate(settings: TrainSettings, progress: float) -> float:
    """The learning rate at `progress` in [0, 1).

    constant; cosine to 0; step: times `decay` at each of `milestones` (shares of training);
    onecycle: linearly up until `warmup`, then linearly to 0.
    """
    peak = settings.learning_rate
    match settings.schedule:
        case "cosine":
            return peak * (1 + math.cos(math.pi * progress)) / 2
        case "step":
            return peak * settings.decay ** sum(progress >= at for at in settings.milestones)
        case "onecycle":
            up, down = progress / settings.warmup, (1 - progress) / (1 - settings.warmup)
            return peak * min(up, down)
    return peak
