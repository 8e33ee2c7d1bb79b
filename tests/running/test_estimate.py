"""The estimate of a cell's training time."""

import copy
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import tiny
from tests.training.test_loop import Watched, train
from tests.training.test_resume import After
from tradeoff.core.schema import Section
from tradeoff.defenses import at, faal
from tradeoff.running.estimate import estimated_seconds
from tradeoff.running.training_checkpoints import TrainingCheckpoint
from tradeoff.training.contract import Loss
from tradeoff.training.loop import Interrupted, fit
from tradeoff.training.plan import Plan


def plan(defense: object = at, knobs: Section | None = None, epochs: int = 3) -> Plan:
    settings = tiny.settings(
        epochs=epochs, batch_size=64, attack={"steps": 20, "relative_step_size": 0.25}
    )
    return Plan(defense, knobs or at.Knobs(), settings, tiny.THREAT, seed=0)  # type: ignore[arg-type]


def test_the_estimate_is_within_a_factor_of_three() -> None:
    data, model = tiny.made_up(train=1024, validation=16), tiny.network()
    best = 0.0
    for _ in range(3):  # a busy machine may disturb one of them
        expected = estimated_seconds(model, data, plan())
        began = time.perf_counter()
        fit(copy.deepcopy(model), data, plan(), lambda *told: None)
        ratio = (time.perf_counter() - began) / expected
        best = max(best, min(ratio, 1 / ratio))
        if best > 1 / 3:
            break
    assert best > 1 / 3


def test_the_model_and_torchs_random_numbers_are_left_as_they_were() -> None:
    model, data = tiny.network(), tiny.made_up()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    estimated_seconds(model, data, plan())
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_the_probe_takes_no_more_at_once_than_training_and_in_its_precision() -> None:
    class Noted(Watched):
        def training_loss(self, *given: Any) -> Loss:
            assert torch.is_autocast_enabled("cpu")
            return super().training_loss(*given)

    watched = Noted()
    settings = tiny.settings(micro_batch=5, precision="bf16")
    estimated_seconds(
        tiny.network(), tiny.made_up(), Plan(watched, None, settings, tiny.THREAT, seed=0)
    )
    assert max(len(labels) for labels in watched.labels) <= 6
    assert {step.batch for step in watched.steps} == {None, 16}, "few images fit in one part"


def test_of_a_resumed_cell_it_is_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock that tells a second for each step and pass: 3 epochs of 4 steps."""
    path = tmp_path / "state.pt"
    assert TrainingCheckpoint(path).reached() == (0, 0)
    with pytest.raises(Interrupted):
        train("at", checkpoint=TrainingCheckpoint(path, After(6)))
    reached = TrainingCheckpoint(path).reached()
    assert reached == (1, 2)
    clock = count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    short = Plan(at, at.Knobs(), tiny.settings(), tiny.THREAT, seed=0)
    model, data = tiny.network(), tiny.made_up()
    validation = 2 * (2 + 1.5)  # 2 batches; 2 steps and 3 forward passes
    assert estimated_seconds(model, data, short) == 12 + 3 * validation
    assert estimated_seconds(model, data, short, reached) == 6 + 2 * validation
    assert estimated_seconds(model, data, short, (3, 0)) == 0


def test_it_grows_with_the_epochs_and_takes_every_defense() -> None:
    model, data = tiny.network(), tiny.made_up()
    assert estimated_seconds(model, data, plan(epochs=3000)) > 20 * estimated_seconds(
        model, data, plan(epochs=30)
    )
    knobs = faal.Knobs(
        radius=0.5, finetune_epochs=1, finetune_rate=0.1, pretrain="trades", pretrain_beta=6.0
    )
    assert estimated_seconds(model, data, plan(faal, knobs)) > 0
