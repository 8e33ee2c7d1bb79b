"""Learning rates over training."""

import pytest

from tests.tiny import THREAT, settings
from tradeoff.defenses import at
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


@pytest.mark.parametrize("schedule", ["cosine", "onecycle", "step", "constant"])
def test_a_plans_rates_are_the_schedule_at_the_middle_of_each_step(schedule: str) -> None:
    chosen = settings(epochs=12, schedule=schedule, learning_rate=0.2, milestones=[0.5])
    plan = Plan(at, at.Knobs(), chosen, THREAT, seed=0)
    planned = [
        plan.learning_rate(epoch, step, STEPS) for epoch in range(12) for step in range(STEPS)
    ]
    for place, rate in enumerate(planned):
        assert rate == pytest.approx(learning_rate(chosen, (place + 0.5) / len(planned)))
    assert max(planned) == pytest.approx(0.2, rel=0.02)


def test_epsilon_grows_to_the_threats_and_stays_there() -> None:
    plan = Plan(at, at.Knobs(), settings(epochs=4, epsilon_warmup=0.5), THREAT, seed=0)
    radii = [plan.threat_at(epoch, step, 2).epsilon for epoch in range(4) for step in range(2)]
    shares = [0.125, 0.375, 0.625, 0.875, 1.0, 1.0, 1.0, 1.0]
    assert radii == pytest.approx([share * THREAT.epsilon for share in shares])
    plain = Plan(at, at.Knobs(), settings(epochs=4), THREAT, seed=0)
    assert plain.threat_at(0, 0, 2) is THREAT
