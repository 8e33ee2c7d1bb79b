"""How long a cell will take on this machine, from a probe on a copy of the model."""

import copy
import time

import torch
from torch import nn

from tradeoff.core.folding import EvalTwin
from tradeoff.core.prepared import Prepared
from tradeoff.core.randomness import generator
from tradeoff.training.contract import Step
from tradeoff.training.plan import Plan, batches_per_epoch, search

FEW = 4  # images that tell enough where a step is slow: then its time grows with the images


def estimated_seconds(model: nn.Module, data: Prepared, plan: Plan) -> float:
    """Training time of the whole cell, without validation. The model is left as it was."""
    device = next(model.parameters()).device
    settings = plan.settings
    steps = settings.epochs * batches_per_epoch(len(data.train), settings.batch_size)
    full = min(settings.batch_size, len(data.train))
    probe = copy.deepcopy(model).train()
    twin = EvalTwin(probe)
    draws = generator("probe", device=device)
    step = Step(twin.module, search(plan.threat, settings.attack), draws, 0, settings.epochs)

    def seconds(count: int) -> float:
        images = data.train.floats(data.train.pixels[:count].to(device))
        labels = data.train.labels[:count].to(device)
        began = time.perf_counter()
        plan.defense.training_loss(probe, images, labels, step, plan.knobs).total.backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    seconds(FEW)  # the first step loads and chooses kernels
    slow = seconds(FEW) * full / FEW
    return steps * (slow if slow > 10 else seconds(full))
