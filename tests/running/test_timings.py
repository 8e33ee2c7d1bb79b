"""What stages took, beside the results."""

import json
from pathlib import Path

import pytest

from tradeoff.running import timings


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def told() -> dict[str, dict[str, dict[str, object]]]:
    text = Path("timings/digits.js").read_text("utf-8")
    start, end = "window.timings = ", ";\n"
    assert text.startswith(start) and text.endswith(end)
    found: dict[str, dict[str, dict[str, object]]] = json.loads(text[len(start) : -len(end)])
    return found


def test_the_stages_of_a_cell_are_told_together() -> None:
    with timings.timed("train@at-vgg16-digits-0"):
        timings.note(seconds=12.5, device="cpu, 1 threads")
    with timings.timed("attack@at-vgg16-digits-0-bounded"):
        pass
    (cell,) = told().values()
    assert cell["train"] == {"seconds": 12.5, "device": "cpu, 1 threads"}
    assert cell["attack-bounded"].keys() == {"seconds"}


def test_a_failed_stage_and_one_of_a_data_set_leave_nothing() -> None:
    with pytest.raises(ValueError, match="broken"), timings.timed("train@at-vgg16-digits-0"):
        raise ValueError("broken")
    with timings.timed("report@digits"):
        pass
    assert not Path("timings").exists()


def test_a_damaged_file_hides_no_other() -> None:
    with timings.timed("train@at-vgg16-digits-0"):
        pass
    Path("timings/digits/at-vgg16-digits-1.train.json").write_text("{")
    with timings.timed("train@at-vgg16-digits-2"):
        pass
    assert told().keys() == {"at-vgg16-digits-0", "at-vgg16-digits-2"}
