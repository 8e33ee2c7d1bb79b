"""Auto-PGD against the authors' code, in strength, and against its own promises."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from torch import Tensor

from tests.attacks.calls import KNOBS, apgd, apgd_targeted
from tests.attacks.trained import L2, LINF, linear, trained
from tradeoff.attacks import apgd as module
from tradeoff.attacks.apgd import checkpoints
from tradeoff.networks.losses import likeliest_others
from tradeoff.networks.randomness import sample_keys
from tradeoff.networks.threat import Threat, perturbation_norm

REFERENCE_NORM = {"linf": "Linf", "l2": "L2"}
THREATS = pytest.mark.parametrize("threat", [LINF, L2], ids=lambda threat: threat.norm)
SEEDS = range(3)  # a mean over seeds, because one run is off by half a point by chance


def robust_accuracy(images: Tensor) -> float:
    model, _, labels, _ = trained()
    return (model(images).argmax(1) == labels).double().mean().item()


@THREATS
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_untargeted_is_as_strong_as_the_authors_code(threat: Threat, loss: str) -> None:
    model, images, labels, keys = trained()
    ours, theirs = 0.0, 0.0
    for seed in SEEDS:
        found = apgd(
            model, images, labels, threat, keys=sample_keys(keys, seed), loss=loss, steps=30
        )
        ours += robust_accuracy(found.images) / len(SEEDS)
        reference = APGDAttack(
            model, n_iter=30, norm=REFERENCE_NORM[threat.norm], eps=threat.epsilon, seed=seed,
            loss=loss, device="cpu",
        )  # fmt: skip
        theirs += robust_accuracy(reference.perturb(images, labels)) / len(SEEDS)
    assert ours <= theirs + 0.005


@THREATS
def test_targeted_is_as_strong_as_the_authors_code(threat: Threat) -> None:
    model, images, labels, keys = trained()
    found = apgd_targeted(model, images, labels, threat, keys=keys, steps=15)
    reference = APGDAttack_targeted(
        model, n_iter=15, norm=REFERENCE_NORM[threat.norm], eps=threat.epsilon, seed=0, device="cpu"
    )
    theirs = robust_accuracy(reference.perturb(images, labels))
    assert robust_accuracy(found.images) <= theirs + 0.005


def test_checkpoints_are_those_of_the_paper() -> None:
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(10) == [3, 5, 6, 7, 8, 9, 10]


def test_linear_model_is_solved_exactly() -> None:
    """The worst point of a linf ball for two of a linear model's classes is a known corner."""
    model = linear(4)
    images = 0.25 + 0.5 * torch.rand(200, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = model(images).argmax(1)
    weights, threat = model[1].weight, Threat("linf", 0.2)
    logits = model(images)
    gaps = logits.gather(1, labels[:, None]) - logits
    reach = threat.epsilon * (weights[labels][:, None] - weights).abs().sum(2)
    gaps.scatter_(1, labels[:, None], torch.inf)
    solvable, possible = (gaps < reach - 1e-4).any(1), (gaps < reach + 1e-4).any(1)
    found = apgd_targeted(
        model, images, labels, threat, keys=sample_keys(torch.arange(200)), targets=3
    )
    fooled = model(found.images).argmax(1) != labels
    assert 20 < solvable.sum() < 180
    assert bool((fooled >= solvable).all())
    assert bool((fooled <= possible).all())


def test_targets_are_ranked_and_leave_out_the_label() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0, 0.0]])
    assert likeliest_others(logits, torch.tensor([0]), 9).tolist() == [[2, 1, 3]]
    assert likeliest_others(logits, torch.tensor([2]), 2).tolist() == [[0, 1]]


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    epsilon=st.floats(0, 2),
    seed=st.integers(0, 2**31),
    targeted=st.booleans(),
)
def test_results_stay_in_the_ball_and_the_range(
    norm: str, epsilon: float, seed: int, targeted: bool
) -> None:
    model, images, labels, _ = trained().first(20)
    keys = sample_keys(torch.arange(20), seed)
    attack = apgd_targeted if targeted else apgd
    epsilon = min(epsilon, 1.0) if norm == "linf" else epsilon
    threat = Threat(norm, epsilon)
    found = attack(model, images, labels, threat, keys=keys, steps=8).images
    assert float(perturbation_norm(found - images, norm).max()) <= epsilon + 1e-6
    assert float(found.min()) >= 0 and float(found.max()) <= 1


@THREATS
@pytest.mark.parametrize("attack", [apgd, apgd_targeted])
def test_batches_do_not_change_the_verdict(threat: Threat, attack) -> None:
    model, images, labels, keys = trained().first(250)
    whole = attack(model, images, labels, threat, keys=keys, steps=8, batch_size=700).images
    order = torch.arange(249, -1, -1)
    parts = attack(
        model, images[order], labels[order], threat, keys=keys[order], steps=8, batch_size=37
    ).images[order]
    same = (model(whole).argmax(1) != labels) == (model(parts).argmax(1) != labels)
    assert same.double().mean() >= 0.999


@THREATS
def test_starting_points_belong_to_the_sample(threat: Threat) -> None:
    """Without steps the start is what comes back."""
    model, images, labels, keys = trained()
    knobs = module.Knobs(**KNOBS["apgd"]).model_copy(update={"steps": 0})
    whole = module.apgd(model, images, labels, knobs, threat, keys).images
    few = (model, images[7:9], labels[7:9], knobs, threat)
    assert torch.equal(whole[7:9], module.apgd(*few, keys[7:9]).images)
    other = module.apgd(*few, keys[17:19]).images
    assert not torch.equal(whole[7:9], other)


def test_fooled_samples_cost_nothing_more() -> None:
    model, images, labels, keys = trained().first(50)
    wrong = (labels + 1) % 10
    found = apgd(model, images, wrong, LINF, keys=keys)
    misclassified = model(images).argmax(1) != wrong
    assert found.queries[misclassified].eq(1).all()
    assert torch.equal(found.images[misclassified], images[misclassified])


def test_gradients_outside_and_parameters_are_left_alone() -> None:
    model, images, labels, keys = trained().first(10)
    model.requires_grad_(True)
    try:
        with torch.no_grad():
            apgd(model, images, labels, LINF, keys=keys, steps=3)
        assert all(parameter.grad is None for parameter in model.parameters())
    finally:
        model.requires_grad_(False)


@pytest.mark.parametrize("attack", [apgd, apgd_targeted])
def test_unsuitable_inputs_are_refused(attack) -> None:
    model, images, labels, keys = trained().first(5)
    with pytest.raises(ValueError, match="NaN or outside"):
        attack(model, images * float("nan"), labels, LINF, keys=keys)
    with pytest.raises(ValueError, match="the model has classes"):
        attack(model, images, labels + 10, LINF, keys=keys)
    with pytest.raises(ValueError, match="does not take images"):
        attack(model, images.repeat(1, 3, 1, 1), labels, LINF, keys=keys)
    model.train()
    try:
        with pytest.raises(ValueError, match="train mode"):
            attack(model, images, labels, LINF, keys=keys)
    finally:
        model.eval()


def test_too_few_classes_are_refused() -> None:
    images, labels, keys = torch.rand(2, 1, 4, 4), torch.zeros(2).long(), torch.arange(2)
    with pytest.raises(ValueError, match="at least 3 classes"):
        apgd(linear(2), images, labels, LINF, keys=keys, loss="dlr")
    with pytest.raises(ValueError, match="at least 4 classes"):
        apgd_targeted(linear(3), images, labels, LINF, keys=keys)
