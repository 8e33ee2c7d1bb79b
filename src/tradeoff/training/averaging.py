"""Averages of a model's weights over training, which are validated and kept in its place."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from tradeoff.core.settings import TrainSettings
from tradeoff.datasets.prepared import Subset


def averaged_model(model: nn.Module, settings: TrainSettings) -> AveragedModel | None:
    """An exponential moving average of weights and BatchNorm statistics (`ema_decay`), an equal
    one of the weights after each epoch (`swa`), or none."""
    if settings.ema_decay is not None:
        average = get_ema_multi_avg_fn(settings.ema_decay)
        return AveragedModel(model, multi_avg_fn=average, use_buffers=True)
    return None if settings.swa is None else AveragedModel(model)


def after_step(averaged: AveragedModel | None, model: nn.Module, settings: TrainSettings) -> None:
    """Take a step's weights into the moving average."""
    if averaged is not None and settings.swa is None:
        averaged.update_parameters(model)


def after_epoch(
    averaged: AveragedModel | None,
    model: nn.Module,
    settings: TrainSettings,
    epoch: int,
    train: Subset,
) -> None:
    """Stochastic weight averaging (Izmailov et al. 2018): take in the weights after an epoch.

    Before `swa.begins`, a share of the epochs, the average is the model itself. BatchNorm's
    statistics, which belong to other weights, are renewed on the training images as they are: not
    attacked, not augmented.
    """
    if averaged is None or settings.swa is None:
        return
    averaged.update_parameters(model)
    if epoch < round(settings.swa.begins * settings.epochs):
        averaged.n_averaged.zero_()  # what comes next replaces it
        return
    numbers = torch.arange(len(train), device=train.labels.device)
    batches = (part for part in numbers.split(settings.batch_size) if len(part) > 1)
    update_bn((train.floats(train.pixels[part]) for part in batches), averaged.module)
