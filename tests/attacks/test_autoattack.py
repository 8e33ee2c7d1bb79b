"""The ensemble against the authors' code, and what it promises about its components."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyautoattack import AutoAttack
from torch import Tensor, nn

from tests.attacks.calls import apgd, apgd_targeted, pgd, square
from tests.attacks.trained import L2, LINF, linear, trained
from tradeoff.attacks.autoattack import PAPER, Knobs, attacks, autoattack, components
from tradeoff.networks.losses import ROUNDING, margin
from tradeoff.networks.randomness import sample_keys
from tradeoff.networks.threat import Threat, perturbation_norm

THREATS = pytest.mark.parametrize("threat", [LINF, L2], ids=lambda threat: threat.norm)
SMALL = Knobs(apgd_steps=15, fab_steps=10, square_queries=100, plus_restarts=2)
TINY = Knobs(apgd_steps=4, fab_steps=3, targets=3, square_queries=20, plus_restarts=2)
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
    found = autoattack(model, images, labels, SMALL, threat, keys)
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
    budget = TINY.model_copy(update={"version": version})
    steps = list(components(model, images, labels, budget, threat, keys))
    assert [step.name for step in steps] == COMPONENTS[version]
    assert torch.equal(steps[0].rows, torch.arange(60))
    assert torch.equal(steps[0].adversarial.images, images)
    queries, fooled = torch.zeros_like(labels), torch.zeros_like(labels, dtype=torch.bool)
    for _, rows, adversarial, logits in steps:
        assert torch.equal(rows, (~fooled).nonzero().squeeze(1))
        assert (adversarial.queries > 0).all()
        torch.testing.assert_close(logits, model(adversarial.images))
        distance = perturbation_norm(adversarial.images - images[rows], threat.norm)
        assert float(distance.max()) <= threat.epsilon + 1e-6
        fooled[rows] = logits.argmax(1) != labels[rows]
        queries[rows] += adversarial.queries
    whole = autoattack(model, images, labels, budget, threat, keys)
    assert torch.equal(whole.queries, queries)
    assert torch.equal(model(whole.images).argmax(1) != labels, fooled)
    assert not fooled.all(), "else the last component has nothing to do"


@THREATS
def test_batches_do_not_change_the_verdict(threat: Threat) -> None:
    model, images, labels, keys = trained().first(100)
    whole = autoattack(model, images, labels, TINY, threat, keys).images
    order = torch.arange(99, -1, -1)
    parts = autoattack(
        model, images[order], labels[order], TINY, threat, keys[order], batch_size=13
    ).images[order]
    assert torch.equal(model(whole).argmax(1) != labels, model(parts).argmax(1) != labels)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(norm=st.sampled_from(["linf", "l2"]), epsilon=st.floats(0, 2), seed=st.integers(0, 2**31))
def test_results_stay_in_the_ball_and_the_range(norm: str, epsilon: float, seed: int) -> None:
    model, images, labels, _ = trained().first(15)
    keys, threat = (
        sample_keys(torch.arange(15), seed),
        Threat(norm, min(epsilon, 1.0) if norm == "linf" else epsilon),
    )
    found = autoattack(model, images, labels, TINY, threat, keys).images
    assert float(perturbation_norm(found - images, norm).max()) <= epsilon + 1e-6
    assert float(found.min()) >= 0 and float(found.max()) <= 1


def test_default_budgets_are_the_papers() -> None:
    assert Knobs().model_dump() == {
        "version": "standard", "apgd_steps": 100, "fab_steps": 100, "targets": 9,
        "square_queries": 5000, "square_rescale_schedule": False, "plus_restarts": 5,
    }  # fmt: skip


def test_nothing_is_attacked_once_all_are_fooled() -> None:
    model, images, _, keys = trained().first(20)
    wrong = (model(images).argmax(1) + 1) % 10
    found = autoattack(model, images, wrong, PAPER, LINF, keys)
    assert torch.equal(found.images, images)
    assert found.queries.eq(1).all()


def test_unsuitable_inputs_are_refused() -> None:
    model, images, labels, keys = trained().first(5)
    with pytest.raises(ValueError, match="NaN or outside"):
        autoattack(model, images * float("nan"), labels, PAPER, LINF, keys)
    with pytest.raises(ValueError, match="the model has classes"):
        autoattack(model, images, labels + 10, PAPER, LINF, keys)
    with pytest.raises(ValueError, match="does not take images"):
        autoattack(model, images.repeat(1, 3, 1, 1), labels, PAPER, LINF, keys)
    with pytest.raises(ValueError, match="'standard' or 'plus'"):
        Knobs(version="rand")
    model.train()
    try:
        with pytest.raises(ValueError, match="train mode"):
            autoattack(model, images, labels, PAPER, LINF, keys)
    finally:
        model.eval()


class Drifting(nn.Module):
    """Class 0 wins for dark images, class 1 for light ones; an error favours class 1."""

    def __init__(self, error: float = 0.0) -> None:
        super().__init__()
        self.error = error

    def forward(self, images: Tensor) -> Tensor:
        light = images.flatten(1).mean(1) - 0.5
        return torch.stack([1 - light, 1 + light + self.error, 0 * light, 0 * light - 1], 1)


@pytest.mark.parametrize("attack", [pgd, apgd, apgd_targeted, square])
def test_no_attack_stops_at_what_fools_its_twin_by_rounding_alone(attack) -> None:  # type: ignore[no-untyped-def]
    """The twin errs on the images as they are; its original, which judges, does not."""
    twin, judge = Drifting(error=ROUNDING / 2).eval(), Drifting().eval()
    images, labels = torch.full((6, 1, 4, 4), 0.5), torch.zeros(6, dtype=torch.long)
    assert (twin(images).argmax(1) == 1).all() and (judge(images).argmax(1) == 0).all()
    found = attack(twin, images, labels, LINF, keys=sample_keys(torch.arange(6))).images
    assert (margin(judge(found), labels) < -ROUNDING).all()


def test_the_judge_says_who_is_robust() -> None:
    twin, judge = Drifting(error=ROUNDING / 2).eval(), Drifting().eval()
    images, labels = torch.full((6, 1, 4, 4), 0.5), torch.zeros(6, dtype=torch.long)
    keys = sample_keys(torch.arange(6))
    inputs = (twin, images, labels, TINY, LINF, keys)
    _, first, *others = components(*inputs, judge=judge)
    assert len(first.rows) == 6 and (first.logits.argmax(1) == 1).all()
    torch.testing.assert_close(first.logits, judge(first.adversarial.images))
    assert all(len(part.rows) == 0 for part in others)
    _, first, *_ = components(*inputs)
    assert len(first.rows) == 0


def test_the_schedule_of_square_is_stretched_if_asked_for() -> None:
    model, images, labels, keys = trained().first(100)
    fixed, stretched = (
        attack(model, images, labels, budget, LINF, keys)
        for rescale in (False, True)
        for attack, budget in [
            attacks(Knobs(square_queries=100, square_rescale_schedule=rescale), LINF)["square"]
        ]
    )
    expected = square(model, images, labels, LINF, keys=keys, queries=100, rescale_schedule=True)
    assert torch.equal(stretched.images, expected.images)
    assert not torch.equal(stretched.images, fixed.images)


@pytest.mark.parametrize(
    ("classes", "names"),
    [(2, ["apgd-ce", "fab-t", "square"]), (3, ["apgd-ce", "fab-t", "square"]),
     (4, ["apgd-ce", "apgd-t", "fab-t", "square"])],
)  # fmt: skip
def test_of_few_classes_what_is_defined_is_run(classes: int, names: list[str]) -> None:
    model = linear(classes)
    images = torch.rand(12, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    labels, keys = model(images).argmax(1), sample_keys(torch.arange(12))
    small = Threat("linf", 0.02)
    _, *parts = components(model, images, labels, TINY, small, keys)
    assert [part.name for part in parts] == names
    gaps = model(images).gather(1, labels[:, None]) - model(images)
    reach = 0.02 * (model[1].weight[labels][:, None] - model[1].weight).abs().sum(2)  # type: ignore[index,union-attr]
    sure = (gaps > 1.01 * reach).sum(1) == classes - 1  # no image within reach fools a linear model
    found = autoattack(model, images, labels, TINY, small, keys).images
    assert not (model(found).argmax(1) != labels)[sure].any()
