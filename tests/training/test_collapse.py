"""Catastrophic overfitting: when it is told, by golden numbers and in the history."""

import pytest
import torch

from tests import golden, tiny
from tradeoff.attacks import pgd as pgd_module
from tradeoff.attacks.fgsm import Knobs as FgsmKnobs
from tradeoff.attacks.fgsm import fgsm as fgsm_attack
from tradeoff.attacks.outcome import is_fooled
from tradeoff.attacks.pgd import Knobs, pgd
from tradeoff.defenses import at, fast, fgsm
from tradeoff.networks.threat import Threat, random_start
from tradeoff.training import loop
from tradeoff.training.loop import fit
from tradeoff.training.plan import Plan
from tradeoff.training.validation import COLLAPSE, accuracies, collapse


def test_collapses_are_those_of_the_authors_detector() -> None:
    assert golden.number("rsfgsm/detector/drop") == COLLAPSE
    rows = golden.tensor("rsfgsm/detector/accuracy").tolist()
    for accuracy, stop, kept in zip(
        rows,
        golden.tensor("rsfgsm/detector/stop").tolist(),
        golden.tensor("rsfgsm/detector/kept").tolist(),
        strict=True,
    ):
        falls = [collapse(*pair) for pair in zip([0.0, *accuracy], accuracy, strict=False)]
        fallen = [epoch for epoch, fall in enumerate(falls) if fall > 0]
        assert (fallen[0] if fallen else -1) == stop
        assert (fallen[0] - 1 if fallen else len(accuracy) - 1) == kept


def test_a_collapse_is_told_by_how_much() -> None:
    assert collapse(0.5, 0.1) == pytest.approx(0.4)
    assert collapse(0.5, 0.31) == 0 and collapse(0.1, 0.5) == 0


def test_validation_moves_only_images_that_are_still_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the authors' check does, whose numbers it then gives."""
    model = tiny.calm(golden.network("sharp").double())
    images, labels = golden.images().double(), golden.labels()
    radius, steps = golden.number("rsfgsm/check/radius"), int(golden.number("rsfgsm/check/steps"))
    threat = Threat("linf", radius)
    noise = golden.tensor("uniform").double()

    def start(given: torch.Tensor, keys: torch.Tensor, *_unused: object) -> torch.Tensor:
        return random_start(given, noise[keys], torch.zeros(len(given)), threat)

    monkeypatch.setattr(pgd_module, "keyed_start", start)
    knobs = Knobs(
        loss="cross_entropy",
        steps=steps,
        relative_step_size=golden.number("rsfgsm/check/step") / radius,
        restarts=1,
    )
    found = pgd(model, images, labels, knobs, threat, torch.arange(len(labels))).images
    right = ~is_fooled(model(found), labels)
    assert torch.equal(right, golden.tensor("rsfgsm/check/correct"))
    assert right.double().mean().item() == golden.number("rsfgsm/check/accuracy")
    expected = golden.tensor("rsfgsm/check/x_adv").double()
    torch.testing.assert_close(found[~right], expected[~right], atol=1e-6, rtol=0)


def test_the_accuracy_under_one_step_is_that_under_fgsm() -> None:
    model, subset = tiny.calm(tiny.network()), tiny.made_up().validation
    budget = tiny.settings().selection
    measured = accuracies(model, subset, tiny.THREAT, budget, 8, True)
    adversarial = fgsm_attack(model, subset.images, subset.labels, FgsmKnobs(), tiny.THREAT)
    fooled = is_fooled(model(adversarial.images), subset.labels)
    already = is_fooled(model(subset.images), subset.labels)
    assert measured["one_step"] == (~fooled & ~already).double().mean().item()
    assert set(accuracies(model, subset, tiny.THREAT, budget, 8)) == {"natural", "robust"}


def test_the_history_of_training_on_one_step_tells_of_collapse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = iter([0.1, 0.6, 0.2])

    def measured(*given: object) -> dict[str, float]:
        assert given[-1] is True
        return {"natural": 0.9, "robust": next(told), "one_step": 0.8}

    monkeypatch.setattr(loop, "accuracies", measured)
    knobs = fast.Knobs(relative_step_size=1.25)
    plan = Plan(fast, knobs, tiny.settings(), tiny.THREAT, 0)
    trained = fit(tiny.network(), tiny.made_up(), plan, lambda *_told: None)
    assert [row["collapse"] for row in trained.history] == pytest.approx([0.0, 0.0, 0.4])
    assert [row["validation_one_step_accuracy"] for row in trained.history] == [0.8] * 3
    assert [row["selected"] for row in trained.history] == [0, 1, 0]


def test_others_are_not_watched() -> None:
    histories = []
    for defense, knobs in ((at, at.Knobs()), (fgsm, fgsm.Knobs(weight=0.5))):
        plan = Plan(defense, knobs, tiny.settings(epochs=1), tiny.THREAT, 0)
        trained = fit(tiny.network(), tiny.made_up(), plan, lambda *_told: None)
        histories.append(trained.history[0])
    assert "collapse" not in histories[0] and histories[1]["collapse"] == 0
    assert "validation_one_step_accuracy" not in histories[0]
