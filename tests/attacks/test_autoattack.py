"""The ensemble against the authors' code, and what it promises about its components."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyautoattack import AutoAttack
from torch import Tensor

from tests.attacks.trained import L2, LINF, trained
from tradeoff.attacks.autoattack import Budget, autoattack, components
from tradeoff.core.randomness import sample_keys
from tradeoff.core.threat import Threat, perturbation_norm

THREATS = pytest.mark.parametrize("threat", [LINF, L2], ids=lambda threat: threat.norm)
SMALL = Budget(apgd_steps=15, fab_steps=10, square_queries=100, plus_restarts=2)
TINY = Budget(apgd_steps=4, fab_steps=3, targets=3, square_queries=20, plus_restarts=2)
COMPONENTS = {
    "standard": ["clean", "apgd-ce", "apgd-t", "fab-t", "square"],
    "plus": ["clean", "apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"],
}


def reference_fooled(threat: Threat, images: Tensor, labels: Tensor) -> Tensor:
    """The authors' verdicts with the budget SMALL, (N,) bool."""
    model = trained().model
    norm = {"linf": "Linf", "l2": "L2"}[threat.norm]
    ensemble = AutoAttack(model, norm=norm, eps=threat.epsilon, seed=0, device="cpu")
    for attack in (ensemble.apgd, ensemble.apgd_targeted):
        attack.n_iter = SMALL.apgd_steps
        attack.n_iter_2, attack.n_iter_min, attack.size_decr = 3, 1, 1
    ensemble.fab.n_iter = SMALL.fab_steps
    ensemble.square.n_queries = SMALL.square_queries
    found, _ = ensemble.run_standard_evaluation(images, labels, batch_size=500)
    return model(found).argmax(1) != labels


@THREATS
def test_verdicts_are_those_of_the_authors_code(threat: Threat) -> None:
    model, images, labels, keys = trained()
    found = autoattack(model, images, labels, threat, keys=keys, budget=SMALL)
    fooled, theirs = (
        model(found.images).argmax(1) != labels,
        reference_fooled(threat, images, labels),
    )
    assert fooled.double().mean() >= theirs.double().mean() - 0.005
    assert (fooled == theirs).double().mean() >= 0.99


@THREATS
@pytest.mark.parametrize("version", ["standard", "plus"])
def test_components_attack_what_is_still_robust(threat: Threat, version: str) -> None:
    model, images, labels, keys = trained().first(60)
    steps = list(components(model, images, labels, threat, keys=keys, version=version, budget=TINY))
    assert [step.name for step in steps] == COMPONENTS[version]
    for before, after in itertools.pairwise(steps):
        assert torch.equal(after.attacked, ~before.fooled)
        assert torch.equal(after.queries > 0, after.attacked)
        assert bool((after.fooled >= before.fooled).all())
        assert torch.equal(after.images[before.fooled], before.images[before.fooled])
        assert torch.equal(model(after.images).argmax(1) != labels, after.fooled)
        distance = perturbation_norm(after.images - images, threat.norm)
        assert float(distance.max()) <= threat.epsilon + 1e-6
    whole = autoattack(model, images, labels, threat, keys=keys, version=version, budget=TINY)
    assert torch.equal(whole.images, steps[-1].images)
    assert torch.equal(whole.queries, sum(step.queries for step in steps))


@THREATS
def test_batches_do_not_change_the_verdict(threat: Threat) -> None:
    model, images, labels, keys = trained().first(100)
    whole = autoattack(model, images, labels, threat, keys=keys, budget=TINY).images
    order = torch.arange(99, -1, -1)
    parts = autoattack(
        model, images[order], labels[order], threat, keys=keys[order], budget=TINY, batch_size=13
    ).images[order]
    assert torch.equal(model(whole).argmax(1) != labels, model(parts).argmax(1) != labels)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(norm=st.sampled_from(["linf", "l2"]), epsilon=st.floats(0, 2), seed=st.integers(0, 2**31))
def test_results_stay_in_the_ball_and_the_range(norm: str, epsilon: float, seed: int) -> None:
    model, images, labels, _ = trained().first(15)
    keys, threat = sample_keys(torch.arange(15), seed), Threat(norm, epsilon)
    found = autoattack(model, images, labels, threat, keys=keys, budget=TINY).images
    assert float(perturbation_norm(found - images, norm).max()) <= epsilon + 1e-6
    assert float(found.min()) >= 0 and float(found.max()) <= 1


def test_default_budgets_are_the_papers() -> None:
    assert Budget() == Budget(
        apgd_steps=100, fab_steps=100, targets=9, square_queries=5000, plus_restarts=5
    )


def test_nothing_is_attacked_once_all_are_fooled() -> None:
    model, images, _, keys = trained().first(20)
    wrong = (model(images).argmax(1) + 1) % 10
    found = autoattack(model, images, wrong, LINF, keys=keys)
    assert torch.equal(found.images, images)
    assert found.queries.eq(1).all()


def test_unsuitable_inputs_are_refused() -> None:
    model, images, labels, keys = trained().first(5)
    with pytest.raises(ValueError, match="NaN or outside"):
        autoattack(model, images * float("nan"), labels, LINF, keys=keys)
    with pytest.raises(ValueError, match="the model has classes"):
        autoattack(model, images, labels + 10, LINF, keys=keys)
    with pytest.raises(ValueError, match="does not take images"):
        autoattack(model, images.repeat(1, 3, 1, 1), labels, LINF, keys=keys)
    with pytest.raises(ValueError, match="allowed are 'standard' and 'plus'"):
        autoattack(model, images, labels, LINF, keys=keys, version="rand")
    model.train()
    try:
        with pytest.raises(ValueError, match="train mode"):
            autoattack(model, images, labels, LINF, keys=keys)
    finally:
        model.eval()
