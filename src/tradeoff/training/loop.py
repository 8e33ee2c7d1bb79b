"""The training loop, the same for every defense."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tradeoff.attacks.pgd import Search
from tradeoff.core.folding import EvalTwin
from tradeoff.core.randomness import generator
from tradeoff.core.study import AscentSettings, TrainSettings
from tradeoff.core.threat import Threat
from tradeoff.datasets.prepared import Prepared, Subset
from tradeoff.defenses.contract import Defense, Step
from tradeoff.training.augment import crop_and_flip
from tradeoff.training.history import EpochRecord, Row
from tradeoff.training.schedules import learning_rate
from tradeoff.training.validation import accuracies

State = dict[str, Tensor]
Report = Callable[[int, int, int, int, Row | None], None]


class TrainingFailed(Exception):
    """Training cannot go on; says where it stopped."""


@dataclass(frozen=True)
class Plan:
    """Everything that determines a training run, next to the model and the data."""

    defense: Defense
    knobs: Any
    settings: TrainSettings
    threat: Threat
    seed: int


@dataclass(frozen=True)
class Trained:
    """The weights of the epoch chosen on the validation split, the last ones, and the history."""

    best: State
    last: State
    history: list[Row]


def fit(model: nn.Module, data: Prepared, plan: Plan, report: Report) -> Trained:
    """Train `model` in place on the device it is on.

    Args:
        report: called with (epoch, epochs, step, steps, None) after each step, and with the
            epoch's row in place of None after each epoch.

    Raises:
        TrainingFailed: the loss was not finite; names epoch and step.
    """
    settings = plan.settings
    device = next(model.parameters()).device
    train, validation = data.train.to(device), data.validation.to(device)
    optimizer = make_optimizer(model, settings)
    averaged = _average(model, settings)
    evaluated = model if averaged is None else averaged.module
    attacked = EvalTwin(model)
    validated = attacked if averaged is None else EvalTwin(evaluated)
    steps = batches_per_epoch(len(train), settings.batch_size)
    history: list[Row] = []
    best, best_score = snapshot(model), (-1.0, -1.0)
    for epoch in range(settings.epochs):
        began = time.perf_counter()
        row = _epoch(
            model, attacked, averaged, optimizer, train, plan, epoch, len(data.classes), report
        )
        validated.refresh()
        natural, robust = accuracies(
            validated.module, validation, plan.threat, settings.selection, settings.batch_size
        )
        row |= {
            "validation_natural_accuracy": natural,
            "validation_robust_accuracy": robust,
            "seconds": time.perf_counter() - began,
        }
        # The control is not made to be robust, so it is not chosen by robustness.
        score = (robust, natural) if plan.defense.ROBUST else (natural, robust)
        if score > best_score:
            best, best_score = snapshot(evaluated), score
            history = [past | {"selected": 0.0} for past in history]
            row["selected"] = 1.0
        else:
            row["selected"] = 0.0
        history.append(row)
        report(epoch, settings.epochs, steps, steps, row)
    return Trained(best, snapshot(evaluated), history)


def _epoch(
    model: nn.Module,
    attacked: EvalTwin,
    averaged: AveragedModel | None,
    optimizer: torch.optim.Optimizer,
    train: Subset,
    plan: Plan,
    epoch: int,
    classes: int,
    report: Report,
) -> Row:
    settings = plan.settings
    device = train.labels.device
    # The defense is not among the seeds: all defenses see the same batches and start points.
    draws = generator("train", plan.seed, epoch, device=device)
    step = Step(
        attacked.module, search(plan.threat, settings.attack), draws, epoch, settings.epochs
    )
    record = EpochRecord(classes, device)
    steps = batches_per_epoch(len(train), settings.batch_size)
    order = torch.randperm(len(train), generator=generator("order", plan.seed, epoch))
    bounds = range(0, (steps + 1) * settings.batch_size, settings.batch_size)
    model.train()
    for number, (begin, end) in enumerate(pairwise(bounds)):
        rate = learning_rate(settings, (epoch * steps + number) / (settings.epochs * steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = order[begin:end].to(device, non_blocking=True)
        images, labels = train.floats(train.pixels[batch]), train.labels[batch]
        if settings.augment == "crop_flip":
            images = crop_and_flip(images, draws)
        attacked.refresh()
        loss = plan.defense.training_loss(model, images, labels, step, plan.knobs)
        optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        if settings.clip_gradient is not None:
            nn.utils.clip_grad_norm_(model.parameters(), settings.clip_gradient)
        optimizer.step()
        if averaged is not None:
            averaged.update_parameters(model)
        record.add(loss, labels)
        report(epoch, settings.epochs, number, steps, None)
    # Asked once an epoch, because asking waits for the device.
    if (bad := record.first_bad_step()) is not None:
        raise TrainingFailed(
            f"the loss was not finite in epoch {epoch + 1}, step {bad + 1} of {steps}; "
            "no model was written. A lower train.learning_rate or train.clip_gradient may help."
        )
    return {"epoch": float(epoch + 1)} | record.row() | {"learning_rate": rate}


def search(threat: Threat, budget: AscentSettings) -> Search:
    """The inner attack of a budget given relative to epsilon."""
    return Search(threat, budget.steps, budget.relative_step_size * threat.epsilon)


def batches_per_epoch(images: int, batch_size: int) -> int:
    """A last batch of a single image is left out: BatchNorm cannot train on it."""
    return images // batch_size + (images % batch_size > 1)


def make_optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """Adam (the thesis) or SGD with Nesterov momentum (the literature)."""
    parameters, decay = model.parameters(), settings.weight_decay
    if settings.optimizer == "adam":
        return torch.optim.Adam(parameters, settings.learning_rate, weight_decay=decay, fused=True)
    return torch.optim.SGD(
        parameters,
        settings.learning_rate,
        momentum=settings.momentum,
        nesterov=settings.momentum > 0,
        weight_decay=decay,
        fused=True,
    )


def snapshot(model: nn.Module) -> State:
    """A copy of the model's state on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def _average(model: nn.Module, settings: TrainSettings) -> AveragedModel | None:
    """Exponential moving average of weights and BatchNorm statistics, if asked for."""
    if settings.ema_decay is None:
        return None
    average = get_ema_multi_avg_fn(settings.ema_decay)
    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)
