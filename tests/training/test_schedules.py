"""Learning rates over training."""

from itertools import chain

import pytest

from tests.tiny import THREAT, settings
from tradeoff.defenses import at, faal
from tradeoff.training.plan import Plan
from tradeoff.training.schedules import learning_rate

GRID = [step / 400 for step in range(400)]


def rates(**changes: object) -> list[float]:
    plan = settings(learning_rate=0.2, **changes)
    return [learning_rate(plan, progress) for progress in GRID]


def test_constant() -> None:
    assert set(rates(schedule="constant")) == {0.2}


def test_cosine_falls_from_the_peak_to_nothing() -> None:
    values = rates(schedule="cosine")
    assert values[0] == 0.2
    assert values[200] == pytest.approx(0.1)
    assert values[100] == pytest.approx(0.2 * (1 + 2**-0.5) / 2)
    assert values == sorted(values, reverse=True)
    assert 0 < values[-1] < 1e-4


def test_step_multiplies_at_each_milestone() -> None:
    values = rates(schedule="step", milestones=[0.5, 0.75], decay=0.1)
    assert values[:200] == [0.2] * 200
    assert values[200:300] == pytest.approx([0.02] * 100)
    assert values[300:] == pytest.approx([0.002] * 100)


def test_onecycle_rises_to_the_peak_at_the_end_of_warmup_and_falls_to_nothing() -> None:
    values = rates(schedule="onecycle", warmup=0.25)
    assert values.index(max(values)) == 100
    assert values[100] == pytest.approx(0.2)
    assert values[:101] == sorted(values[:101])
    assert values[100:] == sorted(values[100:], reverse=True)
    assert values[50] == pytest.approx(0.1) and values[250] == pytest.approx(0.1)
    assert min(values) >= 0 and values[-1] < 0.001


STEPS = 10


def planned(finetune_epochs: int | None, **changes: object) -> list[list[float]]:
    """The rates of each step of 12 epochs of FAAL."""
    knobs = faal.Knobs(
        radius=0.5,
        finetune_epochs=finetune_epochs,
        finetune_rate=0.1,
        pretrain="at",
        pretrain_beta=6.0,
    )
    plan = Plan(faal, knobs, settings(epochs=12, learning_rate=0.2, **changes), THREAT, seed=0)
    return [
        [plan.learning_rate(epoch, step, STEPS) for step in range(STEPS)] for epoch in range(12)
    ]


@pytest.mark.parametrize("schedule", ["cosine", "onecycle", "step", "constant"])
def test_pretraining_and_fine_tuning_have_a_whole_schedule_each(schedule: str) -> None:
    rates = planned(2, schedule=schedule, milestones=[0.5])
    chosen = settings(schedule=schedule, learning_rate=0.2, milestones=[0.5])
    before, own = (list(chain(*part)) for part in (rates[:10], rates[10:]))
    for values, peak in ((before, 1.0), (own, 0.1)):
        for place in (0, len(values) - 1):
            expected = peak * learning_rate(chosen, (place + 0.5) / len(values))
            assert values[place] == pytest.approx(expected)
    assert max(before) == pytest.approx(0.2, rel=0.02)
    assert max(own) == pytest.approx(0.02, rel=0.1)


def test_without_pretraining_there_is_one_schedule_at_the_usual_rate() -> None:
    whole = planned(None, schedule="cosine")
    assert whole[0][0] == pytest.approx(0.2, rel=0.01) and whole[-1][-1] < 1e-4
    plan = Plan(
        at, at.Knobs(), settings(epochs=12, learning_rate=0.2, schedule="cosine"), THREAT, 0
    )
    assert [plan.learning_rate(epoch, 3, STEPS) for epoch in range(12)] == [
        rates[3] for rates in whole
    ]
