"""Cells that stand on other cells' models: when they start, and what becomes of them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toys import ROOT, Toy

from tradeoff.core.study import Study

BASE, ROW = "at-resnet18-digits-0", "faal-resnet18-digits-0"
TEACHER, STUDENT = "tempered-resnet18-digits-0", "distillation-resnet18-digits-0"
LISTS = Study.load(ROOT / "params.yaml").axes.trained
WITH_TEACHER: dict[str, Any] = {
    "defenses": ["at", "distillation"],
    "trained": {name: [] for name in LISTS}
    | {"alone": ["at", "tempered"], "on_teacher": ["distillation"]},
    "seeds": [0],
}
# A model that was made of its base's, and says so.
TRAIN = f"""
    if names[0] == {ROW!r}:
        assert Path("models/digits/{BASE}/best").exists()
"""
# The attacks on the base go on until the other has begun its training.
ATTACK = f"""
    end = time.time() + 60
    while names[0] == {BASE!r} and not Path("checkpoints/state/train@{ROW}.json").exists():
        assert time.time() < end, "it waits for the attacks on its base"
        time.sleep(0.1)
"""


@pytest.fixture(scope="module")
def with_teacher(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """Two rows, one of which stands on a model that is no row; done and committed."""
    study = Toy(tmp_path_factory.mktemp("bases")).build({}, **WITH_TEACHER)
    study.tradeoff("reproduce", "--jobs", "2")
    study.commit()
    return study


def test_a_cell_starts_when_its_base_is_trained(toy: Callable[..., Toy]) -> None:
    study = toy({"train": ("", TRAIN), "attack": ("", ATTACK)}, defenses=["faal", "at"], seeds=[0])
    said = study.tradeoff("reproduce", "--jobs", "2")
    assert f"{ROW}: done" in said and f"{BASE}: done" in said
    assert study.up_to_date()


def test_a_base_that_is_no_row_is_trained_once_and_not_attacked(with_teacher: Toy) -> None:
    assert (with_teacher.folder / "models" / "digits" / TEACHER / "best").exists()
    assert list((with_teacher.folder / "ledgers" / "digits").glob("tempered-*")) == []
    shown = with_teacher.tradeoff("status")
    assert "digits: 3 cells, 3 done" in shown
    assert with_teacher.up_to_date()


def test_a_change_of_the_base_reruns_what_stands_on_it(with_teacher: Toy, tmp_path: Path) -> None:
    study = with_teacher.copy(tmp_path / "toy")
    params = study.folder / "params.yaml"
    params.write_text(re.sub(r"(tempered:.*\n  temperature:) \d+", r"\1 7", params.read_text()))
    shown = study.tradeoff("status")
    assert re.search(r"tempered resnet18 +stale", shown)
    study.tradeoff("reproduce", STUDENT)
    logs = study.folder / "checkpoints" / "logs"
    for key, stage in ((TEACHER, "train"), (STUDENT, "train_on_teacher")):
        assert f"Running stage '{stage}@{key}'" in (logs / f"{key}.log").read_text()


def test_a_cell_whose_base_failed_is_told(toy: Callable[..., Toy]) -> None:
    fail = 'if "tempered" in names[0]: raise OSError("no such luck")'
    study = toy({"train": ("", fail)}, **WITH_TEACHER)
    said = study.tradeoff("reproduce", "digits", ok=False)
    assert f"{TEACHER}: OSError: no such luck" in said
    assert f"{STUDENT}: it needs train@{TEACHER}" in said
    assert "at-resnet18-digits-0: done" in said
    assert "the report is of the cells that are there" in said


def test_verify_makes_the_bases_too(with_teacher: Toy, tmp_path: Path) -> None:
    study = with_teacher.copy(tmp_path / "toy")
    said = study.tradeoff("verify", STUDENT)
    assert f"Running stage 'train@{TEACHER}'" in said
    assert "every output is the same, byte for byte" in said
