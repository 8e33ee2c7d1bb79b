"""An interrupted cell goes on where it was, and ends with the bytes of an uninterrupted one."""

import os
import signal
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests import tiny
from tests.training.test_loop import KNOBS, Watched, digest, train, watch
from tradeoff.core.files import BadInterval, save_interval
from tradeoff.core.study import Study
from tradeoff.running import training_checkpoints
from tradeoff.running.interruption import interruptions
from tradeoff.running.training_checkpoints import TrainingCheckpoint, checkpoint_path
from tradeoff.training import loop
from tradeoff.training.checkpoint import Checkpoint, NoCheckpoint
from tradeoff.training.contract import Loss
from tradeoff.training.loop import Interrupted, Trained, TrainingFailed, fit
from tradeoff.training.plan import Plan

CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("dtrades", {"augment": "crop_flip"}),
    ("faal", {"ema_decay": 0.9, "optimizer": "sgd"}),
    ("standard", {"micro_batch": 5, "schedule": "cosine"}),
    ("trades", {"weight_perturbation": {"gamma": 0.01, "begins": 0}, "label_smoothing": 0.1,
                "ema_decay": 0.9, "micro_batch": 5}),
    ("trades", {"weight_perturbation": {"gamma": 0.01, "begins": 0.3}, "swa": {"begins": 0.3}}),
]  # fmt: skip


class After:
    """Interrupts at the end of the n-th step."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self) -> bool:
        self.left -= 1
        return self.left == 0


def attempt(name: str, checkpoint: TrainingCheckpoint, **changes: Any) -> Trained:
    torch.manual_seed(int.from_bytes(os.urandom(4), "little"))
    return train(name, checkpoint=checkpoint, **changes)


@cache
def uninterrupted(number: int) -> str:
    """What each of CHANGES gives without an interruption."""
    name, changes = CHANGES[number]
    return digest(train(name, **changes))


@pytest.mark.parametrize(("name", "changes"), CHANGES)
@pytest.mark.parametrize("steps", [1, 3, 4, 7, 8, 9, 12])
def test_interrupted_anywhere_it_gives_the_same_bytes(
    tmp_path: Path, name: str, changes: dict[str, Any], steps: int
) -> None:
    path = tmp_path / "folder" / "state.pt"
    with pytest.raises(Interrupted, match="goes on"):
        attempt(name, TrainingCheckpoint(path, After(steps)), **changes)
    assert path.exists()
    resumed = attempt(name, TrainingCheckpoint(path), **changes)
    assert digest(resumed) == uninterrupted(CHANGES.index((name, changes)))


def test_it_goes_on_instead_of_starting_again(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    with pytest.raises(Interrupted):
        attempt("at", TrainingCheckpoint(path, After(10)))
    counted = After(1000)
    attempt("at", TrainingCheckpoint(path, counted))
    assert 1000 - counted.left == 2, "of the 12 steps, 2 were left"


def test_a_state_is_also_kept_between_interruptions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_checkpoints, "INTERVAL", -1.0)
    monkeypatch.setattr(loop, "accuracies", lambda *rest: 1 / 0)  # as a crash in validation
    path = tmp_path / "state.pt"
    with pytest.raises(ZeroDivisionError):
        attempt("at", TrainingCheckpoint(path))
    state = TrainingCheckpoint(path).load()
    assert state is not None and (state["epoch"], state["step"]) == (0, 4)


@pytest.mark.parametrize("spoil", ["loss", "gradient"])
@pytest.mark.parametrize("stop", [False, True])
def test_a_state_that_is_not_finite_is_never_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: str, stop: bool
) -> None:
    """After a failure, which a GPU need not repeat, the cell goes on from before it."""

    class Spoiled(Watched):
        def training_loss(self, *given: Any) -> Loss:
            loss = super().training_loss(*given)
            if len(self.labels) == 6:
                zero = loss.total - loss.total.detach()
                added = zero / 0 if spoil == "loss" else zero.sqrt()  # the root's slope is infinite
                loss = Loss(loss.total + added)
            return loss

    def fitted(watched: Watched, asked: Any = lambda: False) -> Trained:
        plan = Plan(watched, None, tiny.settings(), tiny.THREAT, seed=0)
        data, state = tiny.made_up(), TrainingCheckpoint(path, asked)
        return fit(tiny.network(), data, plan, lambda *told: None, state)

    monkeypatch.setattr(training_checkpoints, "INTERVAL", 1e9 if stop else -1.0)
    path = tmp_path / "state.pt"
    with pytest.raises(TrainingFailed, match=r"epoch 2, step 2 of 4\. .* same command"):
        fitted(Spoiled(), After(6) if stop else lambda: False)
    state = TrainingCheckpoint(path).load()
    assert state is not None and (state["epoch"], state["step"]) == (1, 0 if stop else 1)
    assert digest(fitted(Watched())) == digest(watch()[1])


def test_a_state_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With Adam's averages it is four times as large as the model, on a slow disk perhaps."""
    path, original, read = tmp_path / "state.pt", torch.load, []
    with pytest.raises(Interrupted):
        attempt("at", TrainingCheckpoint(path, After(6)))

    def load(*given: Any, **options: Any) -> Any:
        read.append(given)
        return original(*given, **options)

    monkeypatch.setattr(torch, "load", load)
    checkpoint = TrainingCheckpoint(path)
    assert checkpoint.reached() == checkpoint.reached() == (1, 2)
    assert digest(attempt("at", checkpoint)) == digest(train("at"))
    assert len(read) == 1
    assert checkpoint.reached() == (3, 0)
    checkpoint.save({"epoch": 5, "step": 0})
    assert checkpoint.load() == {"epoch": 5, "step": 0}, "what was saved since"


def test_a_cell_goes_on_in_another_layout(tmp_path: Path) -> None:
    """As of a card of another generation; there Adam's averages must lie as the weights do."""

    def trained(layout: torch.memory_format, checkpoint: Checkpoint) -> Trained:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = nn.Sequential(
                nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten(), nn.Linear(64, 4)
            )
        return train("at", model=model.to(memory_format=layout), checkpoint=checkpoint)

    path = tmp_path / "state.pt"
    with pytest.raises(Interrupted):
        trained(torch.contiguous_format, TrainingCheckpoint(path, After(6)))
    resumed = trained(torch.channels_last, TrainingCheckpoint(path))
    whole = trained(torch.contiguous_format, NoCheckpoint())
    for name, tensor in whole.last.items():
        torch.testing.assert_close(resumed.last[name], tensor, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("keep", [0, 10, 0.5])
def test_a_torn_state_is_no_state(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "state.pt"
    with pytest.raises(Interrupted):
        attempt("at", TrainingCheckpoint(path, After(5)))
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    assert TrainingCheckpoint(path).load() is None
    assert digest(attempt("at", TrainingCheckpoint(path))) == digest(train("at"))


def test_something_else_is_no_state(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    for content in (b"a line of text\n", b"\x00" * 100, b"[1, 2]"):
        path.write_bytes(content)
        assert TrainingCheckpoint(path).load() is None


@pytest.mark.parametrize(("minutes", "states"), [(None, 3), ("60", 0), ("1e-9", 15)])
def test_how_often_a_state_is_kept_may_be_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: str | None, states: int
) -> None:
    """Of three epochs of four steps."""
    monkeypatch.delenv("TRADEOFF_SAVE_MINUTES", raising=False)
    if minutes is not None:
        monkeypatch.setenv("TRADEOFF_SAVE_MINUTES", minutes)
    kept: list[int] = []
    checkpoint = TrainingCheckpoint(tmp_path / "state.pt", interval=save_interval())
    save = checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda state: (kept.append(state["step"]), save(state)))
    assert digest(attempt("at", checkpoint)) == digest(train("at"))
    assert len(kept) == states


@pytest.mark.parametrize("minutes", ["0", "-3", "often", "nan", "inf", "3 min"])
def test_an_interval_that_is_none_is_refused(minutes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADEOFF_SAVE_MINUTES", minutes)
    with pytest.raises(BadInterval, match=f"is '{minutes}'; it should be a positive number"):
        save_interval()


def test_nothing_is_left_when_it_is_done(tmp_path: Path) -> None:
    checkpoint = TrainingCheckpoint(tmp_path / "folder" / "state.pt")
    attempt("at", checkpoint)
    assert (tmp_path / "folder").exists()
    checkpoint.done()
    assert not list(tmp_path.iterdir())


def test_the_place_depends_on_everything_that_determines_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADEOFF_CHECKPOINTS", str(tmp_path))
    cells = Study.load(Path(__file__).parents[2] / "params.yaml").cells("digits")
    defense, knobs = KNOBS["trades"]

    def place(
        cell: int = 0, weights: int = 0, data: int = 0, beta: float = 6.0, **changes: Any
    ) -> Path:
        plan = Plan(defense, type(knobs)(beta=beta), tiny.settings(**changes), tiny.THREAT, seed=0)
        return checkpoint_path(cells[cell], tiny.network(weights), tiny.made_up(seed=data), plan)

    reference = place()
    assert reference == place() and reference.parent.parent == tmp_path
    others = [place(cell=1), place(weights=1), place(data=1), place(beta=5.0), place(epochs=9)]
    with monkeypatch.context() as patched:
        patched.setattr(torch, "get_num_threads", lambda: 99)
        others.append(place())
    assert len({reference, *others}) == 7


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_noted_and_the_second_one_is_obeyed(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with interruptions() as asked:
        assert not asked()
        signal.raise_signal(number)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before
