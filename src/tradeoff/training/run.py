"""All that changes while a cell trains, in one place, so that it can be kept and taken up again."""

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from tradeoff.core.settings import TrainSettings
from tradeoff.datasets.prepared import Prepared
from tradeoff.networks.passes import PassCounter
from tradeoff.networks.randomness import generator
from tradeoff.training.averaging import averaged_model
from tradeoff.training.history import EpochRecord, Row
from tradeoff.training.plan import Plan, batches_per_epoch

State = dict[str, Tensor]


@dataclass
class Run:
    """A cell in training.

    Attributes:
        steps: in an epoch.
        averaged: the average of the model over training, if there is one.
        epoch, step: what comes next, from 0.
        record, draws, passes: of the present epoch; see `begin_epoch`.
        best, best_score: the weights of the epoch chosen so far, and by which accuracies; before
            the first epoch those of the beginning, and -1.
        memory: what the defense keeps from step to step.
        scaler: of the loss with `precision: fp16`, whose small gradients would be 0; else idle.
        skipped: steps of the present epoch that were left out because a gradient overflowed.
    """

    plan: Plan
    model: nn.Module
    classes: int
    steps: int
    optimizer: torch.optim.Optimizer
    averaged: AveragedModel | None
    scaler: torch.amp.GradScaler
    best: State
    best_score: tuple[float, float] = (-1.0, -1.0)
    epoch: int = 0
    step: int = 0
    history: list[Row] = field(default_factory=list)
    passes: PassCounter = field(default_factory=PassCounter)
    memory: dict[str, Tensor] = field(default_factory=dict)
    skipped: int = 0

    @classmethod
    def begin(cls, model: nn.Module, plan: Plan, data: Prepared) -> "Run":
        """Before the first step."""
        settings, classes = plan.settings, len(data.classes)
        steps = batches_per_epoch(len(data.train), settings.batch_size)
        optimizer, averaged = make_optimizer(model, settings), averaged_model(model, settings)
        device = next(model.parameters()).device
        scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16")
        run = cls(plan, model, classes, steps, optimizer, averaged, scaler, snapshot(model))
        run.begin_epoch()
        return run

    @property
    def evaluated(self) -> nn.Module:
        """The network that is validated and kept."""
        return self.model if self.averaged is None else self.averaged.module

    def begin_epoch(self) -> None:
        """An empty record, and the epoch's own random numbers."""
        device = next(self.model.parameters()).device
        self.step = 0
        self.record = EpochRecord(self.classes, device)
        # The defense is not among the seeds: all defenses see the same batches and start points.
        self.draws = generator("train", self.plan.seed, self.epoch, device=device)
        self.passes.forward = self.passes.backward = self.skipped = 0
        self._seconds = 0.0
        self.start_clock()

    def start_clock(self) -> None:
        """From now on time counts: what came before, such as compiling, is not the epoch's."""
        self._since = time.perf_counter()

    def take_step(self) -> None:
        """The optimizer's step by the gradients there are; left out if fp16 overflowed in them."""
        if self.plan.settings.clip_gradient is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.settings.clip_gradient)
        before = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.skipped += self.scaler.get_scale() < before

    def is_finite(self) -> bool:
        """Whether the model's weights and statistics are finite. Waits for the device."""
        return all(bool(tensor.isfinite().all()) for tensor in self.model.state_dict().values())

    @property
    def seconds(self) -> float:
        """Spent on the present epoch, without the time between an interruption and its end."""
        return self._seconds + time.perf_counter() - self._since

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values, for `load_state_dict` of a run of the same plan."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
            "best": self.best,
            "best_score": self.best_score,
            "epoch": self.epoch,
            "step": self.step,
            "history": self.history,
            "record": self.record.state_dict(),
            "draws": self.draws.get_state(),
            "memory": self.memory,
            "passes": (self.passes.forward, self.passes.backward),
            "scaler": self.scaler.state_dict(),
            "skipped": self.skipped,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for parameter, averages in self.optimizer.state.items():
            for name, value in averages.items():
                if value.shape == parameter.shape:  # kept, perhaps, in another card's layout
                    averages[name] = torch.empty_like(parameter).copy_(value)
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.best, self.best_score = state["best"], state["best_score"]
        self.epoch, self.history = state["epoch"], state["history"]
        self.begin_epoch()
        self.step = state["step"]
        self.record.load_state_dict(state["record"])
        device = next(self.model.parameters()).device
        self.memory = {name: tensor.to(device) for name, tensor in state["memory"].items()}
        self.draws.set_state(state["draws"])
        self.passes.forward, self.passes.backward = state["passes"]
        self.scaler.load_state_dict(state["scaler"])
        self.skipped = state["skipped"]
        self._seconds = state["seconds"]


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
