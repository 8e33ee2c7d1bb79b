"""The estimate of a cell's training time."""

import copy
import time
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests import tiny
from tests.training.test_loop import Watched, train
from tests.training.test_resume import After
from tradeoff.core.schema import Section
from tradeoff.defenses import at, faal, outer_polytope
from tradeoff.running.estimate import PROBES, Estimate, estimate, saved_bytes
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
        expected = estimate(model, data, plan()).fastest
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
    estimate(model, data, plan())
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
    estimate(tiny.network(), tiny.made_up(), Plan(watched, None, settings, tiny.THREAT, seed=0))
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
    whole, rest = 12 + 3 * validation, 6 + 2 * validation
    assert estimate(model, data, short) == Estimate(whole, whole)
    assert estimate(model, data, short, reached) == Estimate(rest, rest)
    assert estimate(model, data, short, (3, 0)) == Estimate(0, 0)


def test_of_disturbed_probes_the_fastest_counts_and_the_spread_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a clock by which each third probe takes a hundred times as long."""
    now, calls = 0.0, count(-1)  # the first call is not of a probe

    def clock() -> float:
        nonlocal now
        number = next(calls)  # two calls a probe
        now += number % 2 * (1.0 if number // 2 % PROBES == 0 else 0.01)
        return now

    monkeypatch.setattr(time, "perf_counter", clock)
    found = estimate(tiny.network(), tiny.made_up(), plan(epochs=1))
    assert found.slowest == pytest.approx(100 * found.fastest)
    assert "to" in found.in_words() and "probes disagree" in found.in_words()


def test_an_estimate_in_words() -> None:
    assert Estimate(600, 800).in_words() == "about 10 min"
    assert Estimate(600, 36000).in_words().startswith("10 min to 10.0 h: other work")


def test_it_grows_with_the_epochs_and_takes_every_defense() -> None:
    model, data = tiny.network(), tiny.made_up()
    short, long = (estimate(model, data, plan(epochs=epochs)) for epochs in (30, 3000))
    assert long.fastest > 20 * short.fastest
    assert estimate(model, data, plan(faal, faal.Knobs(radius=0.5))).fastest > 0


@pytest.mark.parametrize("projections", [None, 3])
def test_the_memory_of_bounds_is_told_and_limited_by_the_micro_batch(
    projections: int | None,
) -> None:
    """What few images keep, extended to a batch, is what a whole one keeps."""
    data = tiny.made_up()
    model = nn.Sequential(
        nn.Conv2d(1, 4, 4, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 16), nn.ReLU(),
        nn.Linear(16, tiny.CLASSES),
    )  # fmt: skip
    knobs = outer_polytope.Knobs(start=1.0, ramp=0.0, projections=projections, clipped=True)

    def told(**settings: Any) -> Estimate:
        chosen = tiny.settings(batch_size=16, **settings)
        return estimate(model, data, Plan(outer_polytope, knobs, chosen, tiny.THREAT, seed=0))

    def keeps_a_batch() -> None:
        images, labels = tiny.batch(16)
        step = replace(tiny.step(model), network=model)
        outer_polytope.training_loss(model, images, labels, step, knobs).total.backward()

    whole, parts = told(), told(micro_batch=4)
    assert whole.memory == pytest.approx(saved_bytes(keeps_a_batch), rel=0.2)
    assert parts.memory is not None and parts.memory < 0.4 * whole.memory
    assert "of memory, which train.micro_batch limits" in whole.in_words()


def test_other_training_is_told_no_memory() -> None:
    assert "memory" not in estimate(tiny.network(), tiny.made_up(), plan()).in_words()
