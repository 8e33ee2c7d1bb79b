"""How long jobs will take, and which stages of other machines are still at work."""

import json
import time
from pathlib import Path

import pytest

from tradeoff.cluster import states
from tradeoff.cluster.expected import expected_seconds, seconds_left
from tradeoff.cluster.plan import Job
from tradeoff.cluster.states import State, read_state

TRAIN, ATTACK = "train@at-vgg16-digits-0", "attack@at-vgg16-digits-0-minimal"
CELL = Job("at-vgg16-digits-0", (TRAIN, ATTACK), frozenset(), "digits", True)
OTHERS = {"trades-vgg16-digits-0": 40.0, "trades-vgg16-digits-1": 60.0, "at-resnet18-digits-0": 2.0}


def state(seconds: float, status: str = "done") -> State:
    return State("any", status, 0.0, seconds, "", None, "")


@pytest.mark.parametrize(
    ("known", "took", "expected"),
    [
        ({TRAIN: state(7), ATTACK: state(3)}, OTHERS, 10.0),  # its own last run
        ({TRAIN: state(7), ATTACK: state(3, "failed")}, OTHERS, 50.0),  # of its network and data
        ({TRAIN: state(7)}, {"at-resnet18-digits-0": 2.0, "report@digits": 4.0}, 3.0),  # of all
        ({}, {}, None),
    ],
)
def test_a_job_takes_as_long_as_it_took_or_as_others_of_its_kind(
    known: dict[str, State], took: dict[str, float], expected: float | None
) -> None:
    assert expected_seconds(CELL, known, took) == expected


def test_what_is_left_takes_at_least_as_long_as_the_longest_job() -> None:
    known, began = {TRAIN: state(60), ATTACK: state(40)}, time.time() - 30
    for slots, expected in ((1, 270), (2, 135), (8, 100)):
        left = seconds_left([(CELL, began)], [CELL, CELL], slots, known, {})
        assert left == pytest.approx(expected, abs=1)
    assert seconds_left([(CELL, began)], [], 1, known | {ATTACK: state(1, "failed")}, {}) is None
    assert seconds_left([(CELL, time.time() - 500)], [], 1, known, {}) == 0


@pytest.mark.parametrize(("silent", "status"), [(0.9, "running"), (1.1, "interrupted")])
def test_a_stage_of_another_machine_is_at_work_until_it_is_silent(
    silent: float, status: str, tmp_path: Path
) -> None:
    """For an hour since its last word, however long ago it began."""
    file = tmp_path / "checkpoints" / "state" / f"{TRAIN}.json"
    file.parent.mkdir(parents=True)
    began = time.time() - 5 * states.SILENCE
    spoke = time.time() - silent * states.SILENCE
    about = {"stage": TRAIN, "status": "running", "host": "elsewhere", "pid": 1, "began": began}
    file.write_text(json.dumps(about | {"seconds": spoke - began}))
    found = read_state(tmp_path, TRAIN)
    assert found is not None and found.status == status
