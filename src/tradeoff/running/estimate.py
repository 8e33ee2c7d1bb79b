"""How long a cell will take on this machine, from a probe on a copy of the model."""

import copy
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.datasets.prepared import Prepared
from tradeoff.networks.ascent import input_gradient
from tradeoff.networks.folding import EvalTwin
from tradeoff.networks.randomness import generator
from tradeoff.running.words import duration, memory_size
from tradeoff.training.history import EpochRecord
from tradeoff.training.loop import Networks, accumulate_gradient
from tradeoff.training.plan import Plan, micro_batches
from tradeoff.training.run import Run
from tradeoff.training.validation import validated_at_once

FEW = 4  # images that tell enough where a step is slow: on a CPU its time grows with the images
PROBES, ENOUGH = 3, 3.0  # a probe is repeated so often, or until it has taken so many seconds
SPREAD = 1.5  # the slowest probe over the fastest, beyond which a machine is said to be busy


class Estimate(NamedTuple):
    """Seconds by the fastest probe, which was disturbed least, and by the slowest one.

    Attributes:
        memory: bytes that a step of training on bounds keeps for its gradient; they can be many
            times those of the network. None for other training.
    """

    fastest: float
    slowest: float
    memory: int | None = None

    def in_words(self) -> str:
        """The time, how long it may become if the probes disagree, and the memory."""
        words = f"about {duration(self.fastest)}"
        if self.slowest > SPREAD * self.fastest:
            words = (
                f"{duration(self.fastest)} to {duration(self.slowest)}: other work slows this "
                "machine down, and the probes disagree"
            )
        if self.memory is None:
            return words
        size = memory_size(self.memory)
        return f"{words}; its bounds take about {size} of memory, which train.micro_batch limits"


def estimate(
    model: nn.Module, data: Prepared, plan: Plan, reached: tuple[int, int] = (0, 0)
) -> Estimate:
    """Training time that is left, without compiling. The model is left as it was.

    Validation is counted as if no image were fooled: it takes that long at most.

    Args:
        reached: epoch and step, from 0, at which training goes on.
    """
    device = next(model.parameters()).device
    settings, (epoch, step) = plan.settings, reached
    run = Run.begin(copy.deepcopy(model).train(), plan, data)
    epochs = settings.epochs - epoch
    run.epoch = min(epoch, settings.epochs - 1)
    twin, validated = EvalTwin(run.model), EvalTwin(run.model, torch.contiguous_format).module
    networks = Networks(run.model, twin.module, twin, plan.bases)
    draws, record = generator("probe", device=device), EpochRecord(run.classes, device)

    def train(images: Tensor, labels: Tensor) -> None:
        accumulate_gradient(run, networks, images, labels, draws, record)

    def attack(images: Tensor, labels: Tensor) -> None:
        input_gradient(lambda points: F.cross_entropy(validated(points), labels), images)

    def seconds(work: Callable[[Tensor, Tensor], None], count: int) -> float:
        images = data.train.floats(data.train.pixels[:count].to(device))
        labels = data.train.labels[:count].to(device)
        began = time.perf_counter()
        work(images, labels)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    def probed(work: Callable[[Tensor, Tensor], None], count: int) -> Estimate:
        taken: list[float] = []
        while len(taken) < PROBES and sum(taken) < ENOUGH:
            taken.append(seconds(work, count))
        return Estimate(min(taken), max(taken))

    def warm_seconds(work: Callable[[Tensor, Tensor], None], full: int) -> Estimate:
        """After a first one, which loads and chooses kernels."""
        if device.type != "cpu":
            seconds(work, full)
            return probed(work, full)
        seconds(work, FEW)
        few, share = probed(work, FEW), full / FEW
        if few.fastest * share > 10:
            return Estimate(few.fastest * share, few.slowest * share)
        return probed(work, full)

    left = epochs * run.steps - step
    training = warm_seconds(train, min(settings.batch_size, len(data.train)))
    at_once = min(validated_at_once(settings, device), len(data.validation), len(data.train))
    # A forward and backward pass for each step, and three times a forward pass alone.
    passes = epochs * len(data.validation) / at_once * (settings.selection.steps + 1.5)
    validation = warm_seconds(attack, at_once)
    memory = None
    if getattr(plan.defense, "TRAINS_ON_BOUNDS", False):
        few, more = (saved_bytes(partial(seconds, train, size)) for size in (2, 4))
        part = micro_batches(min(settings.batch_size, len(data.train)), settings.micro_batch)[0]
        memory = few + (more - few) // 2 * (part.stop - 2)
    fastest, slowest = (
        left * one + passes * other for one, other in zip(training[:2], validation[:2], strict=True)
    )
    return Estimate(fastest, slowest, memory)


def saved_bytes(work: Callable[[], object]) -> int:
    """How much memory a forward pass keeps for the backward one: each piece counts once."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        work()
    return sum(kept.values())
