"""State files: what `tradeoff status` reads about a stage that runs, failed or is done."""

import json
from pathlib import Path

import pytest

from tradeoff.core.schema import BadParams
from tradeoff.running import state

STAGE = "train@trades-resnet18-digits-0"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRADEOFF_CHECKPOINTS", str(tmp_path))
    monkeypatch.setattr(state, "EVERY", 0)
    return tmp_path


def read() -> dict:  # type: ignore[type-arg]
    return json.loads(state.state_file(STAGE).read_text())


def test_a_running_stage_tells_what_it_does_and_what_is_left() -> None:
    with state.recorded(STAGE):
        assert read()["status"] == "running"
        state.note("epoch 6/12", 0.5)  # resumed in the middle
        assert "left" not in read()
        state.note("epoch 9/12", 0.75)
        told = read()
    assert told["doing"] == "epoch 9/12"
    # From half to three quarters is as long as from there to the end.
    assert 0 <= told["left"] <= told["seconds"] + 1e-3
    assert read()["status"] == "done"


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (BadParams("train.epochs: is 0"), "failed", "train.epochs: is 0"),
        (RuntimeError("out of memory"), "failed", "RuntimeError: out of memory"),
        (KeyboardInterrupt(), "interrupted", None),
    ],
)
def test_a_stage_that_ends_badly_says_why(error, status, message) -> None:
    with pytest.raises(type(error)), state.recorded(STAGE):
        raise error
    assert read()["status"] == status
    assert read().get("error") == message


def test_a_state_that_cannot_be_written_stops_nothing(folder: Path) -> None:
    (folder / "state").write_text("a file where the folder should be")
    with state.recorded(STAGE):
        state.note("epoch 1/12", 0.1)


def test_outside_a_stage_nothing_is_written(folder: Path) -> None:
    state.note("epoch 1/12", 0.1)
    assert list(folder.iterdir()) == []
