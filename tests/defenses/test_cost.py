"""What a step of a defense costs: passes, and what its graphs hold until the backward pass.

Counted, not timed, so that it is the same on every machine.
"""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests import tiny
from tests.defenses.test_every_defense import NAMES, STUDY, prepared
from tradeoff.networks.passes import PassCounter

BATCH = 16


class Held:
    """How many bytes graphs hold for the backward pass, beside weights and statistics."""

    def __init__(self, but: list[Tensor]) -> None:
        self.ignored = {tensor.untyped_storage().data_ptr() for tensor in but}
        self.users: Counter[int] = Counter()
        self.now = self.most = 0

    def pack(self, tensor: Tensor) -> "Kept":
        return Kept(tensor, self)

    def take(self, tensor: Tensor, users: int) -> None:
        storage = tensor.untyped_storage()
        place, before = storage.data_ptr(), self.users[storage.data_ptr()]
        self.users[place] += users
        if place not in self.ignored and 0 in (before, before + users):
            self.now += users * storage.nbytes()
            self.most = max(self.most, self.now)


class Kept:
    """A tensor that a graph has saved; what it is held by ends with it."""

    def __init__(self, tensor: Tensor, held: Held) -> None:
        self.tensor, self.held = tensor, held
        held.take(tensor, 1)

    def __del__(self) -> None:
        self.held.take(self.tensor, -1)


def cost(name: str) -> tuple[float, float, int]:
    """Of one step with three steps of attack: passes of an image in forward equivalents (a backward
    pass by the parameters is worth two), passes through the model itself, bytes held at most."""
    defense, model, step = prepared(name, tiny.THREAT)
    fitted, frozen = PassCounter(), PassCounter()
    bases = {role: frozen.count(base) for role, base in step.bases.items()}
    step = replace(step, frozen=frozen.count(step.frozen), bases=bases)
    images, labels = tiny.batch(BATCH)
    held = Held([images, *model.state_dict().values(), *step.frozen.state_dict().values()])
    knobs: Any = STUDY.knobs[name]
    with torch.autograd.graph.saved_tensors_hooks(held.pack, lambda kept: kept.tensor):
        loss = defense.training_loss(fitted.count(model), images, labels, step, knobs)
        loss.total.backward()
    passes = fitted.forward + 2 * fitted.backward + frozen.forward + frozen.backward
    return passes / BATCH, fitted.forward / BATCH, held.most


# What it takes at least: an attack of one step is 2, of three 6; a trained pass 3, one without 1.
PASSES = {"standard": 3, "at": 6 + 3, "fast": 2 + 3, "fgsm": 2 + 2 * 3, "alp": 6 + 2 * 3,
          "arda": 3 * 12 + 4 * 3, "distillation": 3 + 1, "clp": 3, "cusp": 6 + 3}  # fmt: skip
# They differentiate a gradient, which holds the graph of the first derivative as well.
TWICE = {"igr", "dtrades_differentiable"}


@pytest.mark.parametrize("name", PASSES)
def test_no_pass_is_done_twice(name: str) -> None:
    assert cost(name)[0] == PASSES[name]


def test_stopping_early_saves_passes() -> None:
    assert cost("fat")[0] < 0.8 * cost("at")[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_step_holds_the_graphs_of_its_loss_and_no_others(name: str) -> None:
    """One for each pass in train mode, as large as that of adversarial training."""
    _, passes, held = cost(name)
    graphs = max(1.0, passes) * (2 if name in TWICE else 1)
    assert held <= 1.1 * graphs * cost("at")[2]
