"""Live curves: rows of the history for a library that params.yaml names."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ruamel.yaml import YAML

from tradeoff.core.schema import BadParams
from tradeoff.running.live import NoCurves, live_curves
from tradeoff.running.progress import Progress

ROOT = Path(__file__).resolve().parents[2]
ROW = {"loss": 1.5, "validation_natural_accuracy": 0.5, "validation_robust_accuracy": 0.25,
       "seconds": 2.0}  # fmt: skip

Choose = Callable[[str], None]


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Choose:
    """Writes a params.yaml with this value of `live`, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRADEOFF_CHECKPOINTS", raising=False)
    text = (ROOT / "params.yaml").read_text("utf-8")

    def write(value: str) -> None:
        changed, count = re.subn(r"^live: null\b", f"live: {value}", text, flags=re.MULTILINE)
        assert count == 1
        Path("params.yaml").write_text(changed, "utf-8")

    return write


def test_off_by_default(choose: Choose) -> None:
    choose("null")
    live_curves("cell")(0, ROW)
    assert [path.name for path in Path().iterdir()] == ["params.yaml"]


def test_no_cell_depends_on_it() -> None:
    def names(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [*value, *(name for part in value.values() for name in names(part))]
        if isinstance(value, list):
            return [name for part in value for name in names(part)]
        return [str(value)]

    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"]
    reports = {"report", "chapter", "index"}  # they tell every value of the file
    cells = {name: stage for name, stage in stages.items() if name not in reports}
    found = [name for stage in cells.values() for name in names(stage.get("params", []))]
    assert "train" in found and not {"live", "params.yaml"} & set(found)


def test_tensorboard_gets_every_row(choose: Choose, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            written.append(folder)

        def add_scalar(self, *row: Any) -> None:
            written.append(row)

        def flush(self) -> None:
            pass

    choose("tensorboard")
    monkeypatch.setitem(
        sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer)
    )  # type: ignore[arg-type]
    progress = Progress("train", "a-cell", (1, 1))
    progress.training(3, 10, 5, 6, None)
    progress.training(3, 10, 5, 6, ROW)
    folder = str(Path("checkpoints", "live", "a-cell"))
    assert written == [folder, *((name, ROW[name], 3) for name in ROW)]


def test_dvclive_gets_every_row_and_leaves_dvc_alone(
    choose: Choose, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    logged: list[Any] = []
    live = SimpleNamespace(
        step=None,
        log_metric=lambda name, value: logged.append((live.step, name, value)),
        make_summary=lambda: None,
    )
    library = SimpleNamespace(Live=lambda folder, **more: asked.update(more) or live)
    choose("dvclive")
    monkeypatch.setitem(sys.modules, "dvclive", library)  # type: ignore[arg-type]
    live_curves("a-cell")(2, ROW)
    assert logged == [(2, name, value) for name, value in ROW.items()]
    assert asked == {"resume": True, "save_dvc_exp": False, "dvcyaml": None}


def test_what_cannot_be_followed_is_told(choose: Choose, monkeypatch: pytest.MonkeyPatch) -> None:
    choose("wandb")
    with pytest.raises(BadParams, match=r"live: .*tensorboard.*dvclive"):
        live_curves("cell")
    choose("dvclive")
    monkeypatch.setitem(sys.modules, "dvclive", None)
    with pytest.raises(NoCurves, match="pip install dvclive"):
        live_curves("cell")
