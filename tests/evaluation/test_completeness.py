"""What is missing of a data set, and what is said of it."""

import json
from pathlib import Path

import pytest

from tradeoff.core.study import Cell, Study
from tradeoff.core.tables import MISSING_COLUMNS
from tradeoff.evaluation.completeness import (
    LONGEST,
    NothingThere,
    complete,
    missing_table,
    needed,
    trained,
)
from tradeoff.running.state import state_file

STUDY = Study.load(Path(__file__).parents[2] / "params.yaml")
FIRST, SECOND = STUDY.cells("digits")[:2]
TRAIN = f"train@{FIRST.key}"
BOUNDED, AUTO = (f"attack@{FIRST.key}-{suite}" for suite in ("bounded", "autoattack"))


@pytest.fixture(autouse=True)
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cells with everything."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRADEOFF_CHECKPOINTS", "checkpoints")
    for cell in (FIRST, SECOND):
        for files in needed(cell).values():
            for file in files:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text("something")


def remove(*stages: str, cell: Cell = FIRST) -> None:
    for stage in stages:
        for file in needed(cell)[stage]:
            file.unlink()


def say(stage: str, status: str, error: str = "", began: float = 1.0) -> None:
    file = state_file(stage)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"status": status, "error": error, "began": began}))


def rows(*cells: Cell) -> list[tuple[str, str, str]]:
    return list(missing_table(cells or (FIRST, SECOND)).itertuples(index=False, name=None))


def test_nothing_is_missing_whatever_states_say() -> None:
    """What failed once has been restored since."""
    say(TRAIN, "failed", "long ago")
    assert complete([FIRST, SECOND]) == trained([FIRST, SECOND]) == [FIRST, SECOND]
    table = missing_table([FIRST, SECOND])
    assert table.empty and list(table.columns) == MISSING_COLUMNS


@pytest.mark.parametrize("stage", [TRAIN, BOUNDED, AUTO, f"attack@{FIRST.key}-minimal"])
def test_a_cell_without_one_file_is_missing(stage: str) -> None:
    remove(stage)
    assert complete([FIRST, SECOND]) == [SECOND]
    assert trained([FIRST, SECOND]) == ([SECOND] if stage == TRAIN else [FIRST, SECOND])
    assert rows() == [(FIRST.key, stage, "did not run")]


def test_ledgers_without_their_model_are_those_of_another() -> None:
    FIRST.model("last").unlink()
    say(TRAIN, "failed", "out of memory")
    assert complete([FIRST, SECOND]) == [SECOND]
    assert rows() == [(FIRST.key, TRAIN, "out of memory")]


def test_every_stage_that_failed_is_named() -> None:
    remove(BOUNDED, AUTO)
    say(BOUNDED, "failed", "one")
    say(AUTO, "failed", "two")
    assert rows() == [(FIRST.key, BOUNDED, "one"), (FIRST.key, AUTO, "two")]


def test_what_attacks_said_of_an_earlier_model_is_not_told() -> None:
    remove(TRAIN, BOUNDED)
    say(BOUNDED, "failed", "old", began=1.0)
    say(TRAIN, "failed", "new", began=2.0)
    assert rows() == [(FIRST.key, TRAIN, "new")]
    say(TRAIN, "failed", "old", began=0.5)  # trained since, and attacked
    assert rows() == [(FIRST.key, BOUNDED, "old")]


@pytest.mark.parametrize("status", ["interrupted", "running"])
def test_a_stage_that_was_cut_off_did_not_end(status: str) -> None:
    remove(TRAIN)
    say(TRAIN, status)
    assert rows() == [(FIRST.key, TRAIN, "did not end")]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("RuntimeError: a\n\n  b\tc\x1b[0m", "RuntimeError: a b c [0m"),
        ("", "no word of why"),
        ("x" * LONGEST, "x" * LONGEST),
        ("x" * (LONGEST + 1), "x" * (LONGEST - 1) + "…"),
    ],
)
def test_an_error_is_one_line(error: str, told: str) -> None:
    remove(TRAIN)
    say(TRAIN, "failed", error)
    assert rows() == [(FIRST.key, TRAIN, told)]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_state_that_cannot_be_read_says_nothing(content: str) -> None:
    remove(TRAIN)
    say(TRAIN, "failed", "x")
    state_file(TRAIN).write_text(content)
    assert rows() == [(FIRST.key, TRAIN, "did not run")]


def test_nothing_at_all_is_an_error_that_says_where_to_look() -> None:
    remove(BOUNDED)
    with pytest.raises(NothingThere, match=r"none of the 1 cells of digits is trained and attack"):
        complete([FIRST])
    remove(TRAIN)
    with pytest.raises(NothingThere, match=r"is trained: .*`tradeoff status digits`"):
        trained([FIRST])
