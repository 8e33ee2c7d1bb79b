"""Live curves: rows of the history for a library that is asked for by name."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from tradeoff.running.live import NoCurves, live_curves
from tradeoff.running.progress import Progress

ROW = {"loss": 1.5, "validation_natural_accuracy": 0.5, "validation_robust_accuracy": 0.25,
       "seconds": 2.0}  # fmt: skip


def test_off_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.delenv("TRADEOFF_LIVE", raising=False)
    monkeypatch.chdir(tmp_path)
    live_curves("cell")(0, ROW)
    assert not list(tmp_path.iterdir())


def test_tensorboard_gets_every_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    written: list[Any] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            written.append(folder)

        def add_scalar(self, *row: Any) -> None:
            written.append(row)

        def flush(self) -> None:
            pass

    monkeypatch.setenv("TRADEOFF_LIVE", "tensorboard")
    monkeypatch.setenv("TRADEOFF_CHECKPOINTS", str(tmp_path))
    monkeypatch.setitem(
        sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer)
    )  # type: ignore[arg-type]
    progress = Progress("train", "a-cell", (1, 1))
    progress.training(3, 10, 5, 6, None)
    progress.training(3, 10, 5, 6, ROW)
    assert written == [str(tmp_path / "live" / "a-cell"), *((name, ROW[name], 3) for name in ROW)]


def test_dvclive_gets_every_row_and_leaves_dvc_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    logged: list[Any] = []
    live = SimpleNamespace(
        step=None,
        log_metric=lambda name, value: logged.append((live.step, name, value)),
        make_summary=lambda: None,
    )
    library = SimpleNamespace(Live=lambda folder, **more: asked.update(more) or live)
    monkeypatch.setenv("TRADEOFF_LIVE", "dvclive")
    monkeypatch.setitem(sys.modules, "dvclive", library)  # type: ignore[arg-type]
    live_curves("a-cell")(2, ROW)
    assert logged == [(2, name, value) for name, value in ROW.items()]
    assert asked == {"resume": True, "save_dvc_exp": False, "dvcyaml": None}


@pytest.mark.parametrize(
    ("name", "message"),
    [("wandb", "allowed are tensorboard, dvclive"), ("dvclive", "pip install dvclive")],
)
def test_what_cannot_be_followed_is_told(
    monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.setenv("TRADEOFF_LIVE", name)
    monkeypatch.setitem(sys.modules, "dvclive", None)
    with pytest.raises(NoCurves, match=message):
        live_curves("cell")
