"""Studies beside the table: what they change of params.yaml is a study that can begin."""

import importlib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tradeoff.core.study import Study

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def params(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "studies")
    return YAML().load((ROOT / "params.yaml").read_text("utf-8"))


def read(params: Any, folder: Path) -> Study:
    with (folder / "params.yaml").open("w") as file:
        YAML().dump(params, file)
    return Study.load(folder / "params.yaml")


@pytest.mark.parametrize("dataset", ["digits", "mnist_5k"])
def test_adapting(dataset: str, params: Any, tmp_path: Path) -> None:
    adapting = importlib.import_module("adapting")
    adapting.rows(params, dataset)
    study = read(params, tmp_path)
    assert {cell.defense for cell in study.cells()} == set(adapting.DEFENSES)
    assert len(list(study.cells())) == 2 * adapting.SEEDS[dataset]
    chosen = next(iter(study.cells())).dataset
    assert chosen.suite("bounded").images == chosen.suite("autoattack").images
    assert chosen.suite("bounded").images == (None if dataset == "digits" else 500)


@pytest.mark.parametrize("name", ["on_digits", "on_mnist"])
def test_certified(name: str, params: Any, tmp_path: Path) -> None:
    certified = importlib.import_module("certified")
    if name == "on_digits":
        certified.on_digits(params)
    else:
        certified.on_mnist(params, "outer_polytope", certified.NIGHT)
    study = read(params, tmp_path)
    assert {cell.architecture for cell in study.cells()} == {"wongsmall"}
