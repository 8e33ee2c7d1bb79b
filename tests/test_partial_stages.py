"""The stages that sum a data set up, when some of its cells have failed."""

import io
import json
import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from tests.evaluation.ledgers import write_ledger
from tradeoff.core.study import Cell, Study
from tradeoff.datasets.prepared import load_prepared
from tradeoff.networks.models import Assembly, new_networks, save_model

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of two defenses and two seeds on digits, of which nothing is computed.

    Its stages run in this process, which has torch imported.
    """
    monkeypatch.syspath_prepend(str(ROOT / "stages"))
    monkeypatch.setattr(sys, "argv", ["pytest"])
    monkeypatch.setenv("TRADEOFF_DEVICE", "cpu")
    monkeypatch.setenv("TRADEOFF_CHECKPOINTS", "checkpoints")
    for name in ("stages", "src"):
        (tmp_path / name).symlink_to(ROOT / name)
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text())
    params["study"].update(
        defenses=["at", "dtrades"], architectures=["resnet18"], datasets=["digits"], seeds=[0, 1]
    )
    params["transfer"].update(images=10, steps=1)
    params["transfer"]["extraction"].update(images=10, augmentations=1, epochs=1)
    params["examples"].update(images=2, measured=4, steps=1)
    params["datasets"]["digits"]["models"]["resnet18"]["width"] = 0.0625
    params["datasets"]["digits"]["arithmetic"] = "native"  # torch is loaded before the stages
    with (tmp_path / "params.yaml").open("w") as file:
        yaml.dump(params, file)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(stage: str, ok: bool = True) -> str:
    sys.argv[:] = [f"stages/{stage}.py", "digits"]
    with redirect_stdout(io.StringIO()) as printed, redirect_stderr(printed):
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
            error = ""
        except SystemExit as stop:
            error = str(stop.code)
    assert (error == "") is ok, printed.getvalue() + error
    return printed.getvalue() + error


def cells() -> list[Cell]:
    return Study.load().cells("digits")


def attacked(cell: Cell) -> None:
    """Ledgers of a cell, and files in the place of its models."""
    for version in ("best", "last"):
        cell.model(version).parent.mkdir(parents=True, exist_ok=True)
        cell.model(version).write_text("")
    for suite in cell.dataset.suites:
        write_ledger(cell, suite, [0, 0, 0, 0, cell.seed])


def failed(stage: str, error: str) -> None:
    file = Path("checkpoints", "state", f"{stage}.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"status": "failed", "error": error, "began": 1.0}))


def table(name: str) -> pd.DataFrame:
    return pd.read_csv(Study.load().dataset("digits").table(name))


def test_the_summary_is_of_the_cells_that_are_there(folder: Path) -> None:
    for cell in cells():
        attacked(cell)
    assert "4 of 4 cells" in run("summarize")
    assert Path("plots", "summary", "digits", "missing.csv").read_text() == "cell,stage,error\n"
    assert "seeds" not in json.loads(Path("metrics/means/digits/at-resnet18.json").read_text())

    gone, stage = "at-resnet18-digits-1", "attack@at-resnet18-digits-1-minimal"
    Path("ledgers", "digits", f"{gone}-minimal.npz").unlink()
    failed(stage, 'OSError: a, "b"')
    said = run("summarize")
    assert "3 of 4 cells" in said and f'missing: {stage}: OSError: a, "b"' in said
    assert table("missing").to_dict("records") == [
        {"cell": gone, "stage": stage, "error": 'OSError: a, "b"'}
    ]
    for name in ("cells", "attacks", "norms", "curve", "masking"):
        found = table(name).groupby(["defense", "seed"]).size()
        assert list(found.index) == [("at", 0), ("dtrades", 0), ("dtrades", 1)], name
    assert set(table("differences")["seeds"]) == {1}
    assert table("detectable")["detectable"].isna().all()
    assert not table("provenance")["cell"].eq(gone).any()
    assert json.loads(Path("metrics/means/digits/at-resnet18.json").read_text())["seeds"] == 1


def test_a_ledger_that_is_wrong_is_not_left_out(folder: Path) -> None:
    first, second, *_ = cells()
    attacked(first)
    attacked(second)
    ledger = first.ledger("bounded")
    whole = ledger.read_bytes()
    for content, said in (
        (whole[: len(whole) // 2], "damaged"),
        (b"", "damaged"),
        (second.ledger("bounded").read_bytes(), f"belongs to {second.key}"),
    ):
        ledger.write_bytes(content)
        assert said in run("summarize", ok=False)
    assert not Path("plots").exists()


def test_without_any_cell_there_is_no_summary(folder: Path) -> None:
    failed("train@at-resnet18-digits-0", "x")
    assert "none of the 4 cells of digits is trained and attacked" in run("summarize", ok=False)


def test_transfer_and_examples_take_the_models_that_are_there(folder: Path) -> None:
    run("prepare")
    data = load_prepared(Path("data", "digits.safetensors"), "digits")
    for stage in ("transfer", "examples"):
        assert "none of the 4 cells of digits is trained" in run(stage, ok=False)
    at, _, *dtrades = cells()
    for cell in (at, *dtrades):
        assembly = Assembly.of(cell, data)
        (model,) = new_networks(assembly, data)
        save_model(model.state_dict(), assembly, cell.model("best"), cell=cell.key)

    assert "3 of 4 models" in run("transfer")
    found = table("transfer")
    of_one_seed = {at.key, dtrades[0].key}
    made = {"ensemble-resnet18", *(f"extraction-{key}" for key in of_one_seed)}
    assert set(found["source"]) == of_one_seed | made
    with np.load(Path("ledgers", "transfer", "digits.npz")) as ledger:
        assert list(ledger["targets"]) == [at.key, *(cell.key for cell in dtrades)]

    run("examples")
    assert list(table("examples")["defense"].unique()) == ["at", "dtrades"]
    at.model("best").unlink()
    dtrades[0].model("best").unlink()
    run("examples")  # of the only seed that is left
    assert list(table("examples")["defense"].unique()) == ["dtrades"]
    assert table("sizes").query("kind == 'parameters'")["name"].tolist() == ["resnet18"]
    classes = table("sizes").query("kind == 'class'")
    assert classes["name"].astype(str).tolist() == list("0123456789")
    images = table("sizes").query("kind == 'images' and name == 'test'")["count"].item()
    assert classes["count"].sum() == images
    run("transfer")  # no other model to try its examples on

    dtrades[1].model("best").write_bytes(b"something")
    for stage in ("transfer", "examples"):
        assert "damaged or not a model" in run(stage, ok=False)
