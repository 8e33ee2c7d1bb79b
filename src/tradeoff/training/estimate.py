"""How long a cell will take on this machine, from a probe on a copy of the model."""

import copy
import time

import torch
from torch import nn

from tradeoff.core.folding import EvalTwin
from tradeoff.core.prepared import Prepared
from tradeoff.core.randomness import generator
from tradeoff.training.history import EpochRecord
from tradeoff.training.loop import Networks, accumulate_gradient
from tradeoff.training.plan import Plan, batches_per_epoch
from tradeoff.training.run import Run

FEW = 4  # images that tell enough where a step is slow: on a CPU its time grows with the images


def estimated_seconds(
    model: nn.Module, data: Prepared, plan: Plan, reached: tuple[int, int] = (0, 0)
) -> float:
    """Training time that is left, without validation and compiling. The model is left as it was.

    Args:
        reached: epoch and step, from 0, at which training goes on.
    """
    device = next(model.parameters()).device
    settings, (epoch, step) = plan.settings, reached
    steps = batches_per_epoch(len(data.train), settings.batch_size)
    left = (settings.epochs - epoch) * steps - step
    full = min(settings.batch_size, len(data.train))
    run = Run.begin(copy.deepcopy(model).train(), plan, len(data.classes))
    run.epoch = min(epoch, settings.epochs - 1)
    twin = EvalTwin(run.model)
    networks = Networks(run.model, twin.module, twin)
    draws, record = generator("probe", device=device), EpochRecord(run.classes, device)

    def seconds(count: int) -> float:
        images = data.train.floats(data.train.pixels[:count].to(device))
        labels = data.train.labels[:count].to(device)
        began = time.perf_counter()
        accumulate_gradient(run, networks, images, labels, draws, record)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    # The first step loads and chooses kernels.
    if device.type != "cpu":
        seconds(full)
        return left * seconds(full)
    seconds(FEW)
    slow = seconds(FEW) * full / FEW
    return left * (slow if slow > 10 else seconds(full))
