"""float16 on cards that have no other short floats: loss scaling, skipped steps, checkpoints."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests import tiny
from tests.training.test_acceleration import train
from tradeoff.defenses import at
from tradeoff.networks.ascent import input_gradient
from tradeoff.training.loop import Interrupted, fit
from tradeoff.training.plan import Plan
from tradeoff.training.run import Run


@pytest.mark.parametrize("name", ["at", "trades", "dtrades"])
def test_fp16_trains_to_nearly_the_same(name: str) -> None:
    plain, short = train(name), train(name, precision="fp16")
    assert short.last["0.weight"].dtype == torch.float32
    assert not torch.equal(plain.last["0.weight"], short.last["0.weight"])
    assert short.history[0]["loss"] == pytest.approx(plain.history[0]["loss"], rel=0.02)
    assert short.history[-1]["loss"] == pytest.approx(plain.history[-1]["loss"], rel=0.1)
    assert all(row["skipped_steps"] == 0 for row in short.history)
    assert "skipped_steps" not in plain.history[0]


@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_step_whose_gradient_overflows_is_skipped_and_counted(
    clip: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = torch.amp.GradScaler
    monkeypatch.setattr(
        torch.amp, "GradScaler", lambda *a, **k: original(*a, **k, init_scale=2.0**20)
    )
    begun = tiny.network().state_dict()
    trained = train("at", precision="fp16", clip_gradient=clip)
    assert trained.history[0]["skipped_steps"] > 0
    assert trained.history[-1]["skipped_steps"] == 0
    assert all(bool(tensor.isfinite().all()) for tensor in trained.last.values())
    assert any(not torch.equal(trained.last[name], begun[name]) for name in begun)


class Kept:
    """A checkpoint in memory that interrupts once, after some steps."""

    due = due_after_epoch = False

    def __init__(self, steps: int) -> None:
        self.left, self.state = steps, None

    def interrupted(self) -> bool:
        self.left -= 1
        return self.left == 0

    def load(self) -> Any:
        return self.state

    def save(self, state: Any) -> None:
        self.state = state


def test_an_interruption_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    original = torch.amp.GradScaler
    monkeypatch.setattr(
        torch.amp,
        "GradScaler",
        lambda *a, **k: original(*a, **k, init_scale=2.0**30, growth_interval=3),
    )

    def run(checkpoint: Any = None) -> Any:
        plan = Plan(at, at.Knobs(), tiny.settings(precision="fp16"), tiny.THREAT, 0)
        return fit(tiny.network(), tiny.made_up(), plan, lambda *_: None, checkpoint)

    kept = Kept(steps=6)
    with pytest.raises(Interrupted):
        run(kept)
    assert kept.state["scaler"]["scale"] != 2.0**30
    resumed, whole = run(kept), run()
    for name, tensor in whole.last.items():
        assert torch.equal(resumed.last[name], tensor)
    assert [row["skipped_steps"] for row in resumed.history] == [
        row["skipped_steps"] for row in whole.history
    ]


def test_small_gradients_by_the_image_survive_half_floats() -> None:
    """Unscaled, a gradient below 6e-8 would be 0 in the backward pass, and so no direction."""
    model = tiny.calm(tiny.network())
    images, labels = tiny.batch(8)

    def objective(points: Tensor) -> Tensor:
        return 1e-6 * F.cross_entropy(model(points), labels, reduction="none")

    exact = input_gradient(objective, images)
    with torch.autocast("cpu", torch.float16):
        found = input_gradient(objective, images)
        unscaled = torch.autograd.grad(objective(images.requires_grad_()).sum(), images)[0]
    seen = exact != 0
    assert (unscaled[seen] == 0).float().mean() > 0.5
    assert (found.sign() == exact.sign())[seen].float().mean() > 0.9


def test_without_fp16_nothing_is_scaled() -> None:
    plan = Plan(at, at.Knobs(), tiny.settings(), tiny.THREAT, 0)
    run = Run.begin(tiny.network(), plan, tiny.made_up())
    assert not run.scaler.is_enabled() and run.scaler.state_dict() == {}
