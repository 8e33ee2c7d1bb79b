"""FAB against the authors' code, closed forms, and its own promises."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyautoattack.fab_projections import projection_l2, projection_linf
from pyautoattack.fab_pt import FABAttack_PT
from torch import Tensor

from tests.attacks.calls import fab, fab_targeted
from tests.attacks.trained import linear, trained
from tradeoff.attacks.fab import onto_plane
from tradeoff.networks.randomness import sample_keys
from tradeoff.networks.threat import perturbation_norm

NORMS = pytest.mark.parametrize("norm", ["linf", "l2"])


def reference_distances(norm: str, images: Tensor, labels: Tensor, targeted: bool) -> Tensor:
    """Smallest distance over all targets, infinite where nothing fools."""
    model = trained().model
    attack = FABAttack_PT(
        model, n_iter=15, norm={"linf": "Linf", "l2": "L2"}[norm], seed=0, device="cpu"
    )
    nearest = torch.full((len(images),), torch.inf)
    for target in range(2, 11) if targeted else [2]:
        attack.target_class = target
        found = attack.attack_single_run(images, labels, is_targeted=targeted)
        fooled = model(found).argmax(1) != labels
        distance = perturbation_norm(found - images, norm)
        nearest = nearest.minimum(distance.where(fooled, torch.inf))
    return nearest


@NORMS
@pytest.mark.parametrize("attack", [fab, fab_targeted])
def test_minimum_norms_are_as_small_as_the_authors(norm: str, attack) -> None:
    model, images, labels, keys = trained().first(200)
    found = attack(model, images, labels, norm, keys=keys, steps=15).images
    theirs = reference_distances(norm, images, labels, attack is fab_targeted)
    fooled = model(found).argmax(1) != labels
    assert fooled.sum() >= theirs.isfinite().sum() - 1
    both = fooled & theirs.isfinite()
    ours = perturbation_norm(found - images, norm)
    assert ours[both].mean() <= 1.02 * theirs[both].mean()


@NORMS
def test_linear_model_is_solved_exactly(norm: str) -> None:
    """Distance to a hyperplane is |f| / ||w||_dual as long as the box does not interfere."""
    model = linear(3)
    images = 0.4 + 0.2 * torch.rand(100, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        model[1].bias -= model(images).mean(0)
    logits, weights = model(images), model[1].weight
    labels = logits.argmax(1)
    dual = 1 if norm == "linf" else 2
    lengths = torch.linalg.vector_norm(weights[labels][:, None] - weights, ord=dual, dim=2)
    gaps = logits.gather(1, labels[:, None]) - logits
    exact = (gaps / lengths).scatter(1, labels[:, None], torch.inf).amin(1)
    for attack in (fab, fab_targeted):
        found = attack(model, images, labels, norm, keys=sample_keys(torch.arange(100)), steps=40)
        distance = perturbation_norm(found.images - images, norm)
        assert bool((model(found.images).argmax(1) != labels).all())
        assert bool((distance >= exact - 1e-5).all())
        assert torch.allclose(distance, exact, rtol=0.06, atol=1e-5)  # eta overshoots by 0.05


@NORMS
def test_projection_is_that_of_the_authors(norm: str) -> None:
    random = torch.Generator().manual_seed(2)
    points = torch.rand(300, 20, generator=random)
    normals = torch.randn(300, 20, generator=random)
    offsets = torch.randn(300, generator=random) * 3
    ours = onto_plane(points, normals, offsets, norm)
    reference = projection_linf if norm == "linf" else projection_l2
    theirs = reference(points, normals, (normals * points).sum(1) + offsets)
    reached = ((normals * ours).sum(1) - offsets).abs() < 1e-4
    assert 100 < reached.sum() < 300
    assert torch.allclose(
        perturbation_norm(ours[reached], norm), perturbation_norm(theirs[reached], norm), atol=1e-4
    )
    assert float((points + ours).min()) >= -1e-6 and float((points + ours).max()) <= 1 + 1e-6
    # Out of reach: every component with a say has gone all the way to its bound.
    corner = ((points + ours)[~reached] * 2 - 1).abs()
    assert torch.allclose(corner, torch.ones_like(corner), atol=1e-5)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    seed=st.integers(0, 2**31),
    scale=st.sampled_from([1e-30, 1e-8, 1.0, 1e8]),
)
def test_projection_reaches_whatever_can_be_reached(norm: str, seed: int, scale: float) -> None:
    """At any scale of the gradient, and with components that have no say."""
    random = torch.Generator().manual_seed(seed)
    points = torch.rand(20, 30, generator=random)
    normals = torch.randn(20, 30, generator=random) * (torch.rand(20, 30, generator=random) > 0.5)
    aim = torch.rand(20, 30, generator=random)
    offsets = (normals * (aim - points)).sum(1)  # the point `aim` is on the plane
    moved = onto_plane(points, normals * scale, offsets * scale, norm)
    assert torch.allclose((normals * moved).sum(1), offsets, atol=1e-4)
    assert bool(
        (perturbation_norm(moved, norm) <= perturbation_norm(aim - points, norm) + 1e-5).all()
    )


@settings(max_examples=8, deadline=None, derandomize=True)
@given(norm=st.sampled_from(["linf", "l2"]), seed=st.integers(0, 2**31), targeted=st.booleans())
def test_results_stay_in_the_range(norm: str, seed: int, targeted: bool) -> None:
    model, images, labels, _ = trained().first(20)
    attack = fab_targeted if targeted else fab
    keys = sample_keys(torch.arange(20), seed)
    found = attack(model, images, labels, norm, keys=keys, steps=4, restarts=2).images
    assert float(found.min()) >= 0 and float(found.max()) <= 1
    moved = perturbation_norm(found - images, norm) > 0
    assert bool((model(found).argmax(1) != labels)[moved].all())


@NORMS
@pytest.mark.parametrize("attack", [fab, fab_targeted])
def test_batches_do_not_change_the_result(norm: str, attack) -> None:
    model, images, labels, keys = trained().first(100)
    whole = attack(model, images, labels, norm, keys=keys, steps=6, restarts=2, batch_size=2000)
    order = torch.arange(99, -1, -1)
    parts = attack(
        model, images[order], labels[order], norm, keys=keys[order], steps=6, restarts=2,
        batch_size=23,
    )  # fmt: skip
    ours, others = whole.images, parts.images[order]
    assert torch.equal(model(ours).argmax(1) != labels, model(others).argmax(1) != labels)
    assert torch.allclose(
        perturbation_norm(ours - images, norm), perturbation_norm(others - images, norm), atol=1e-3
    )


def test_a_sample_leaves_when_it_is_near_enough() -> None:
    model, images, labels, keys = trained().first(100)
    full = fab_targeted(model, images, labels, "linf", keys=keys, steps=10)
    brief = fab_targeted(model, images, labels, "linf", keys=keys, steps=10, enough=0.15)
    near = perturbation_norm(full.images - images, "linf") <= 0.15
    assert torch.equal(near, perturbation_norm(brief.images - images, "linf") <= 0.15)
    assert brief.queries[near].sum() < full.queries[near].sum() / 2
    assert torch.equal(brief.queries[~near], full.queries[~near])


@pytest.mark.parametrize("attack", [fab, fab_targeted])
def test_unsuitable_inputs_are_refused(attack) -> None:
    model, images, labels, keys = trained().first(5)
    with pytest.raises(ValueError, match="NaN or outside"):
        attack(model, images * float("nan"), labels, "linf", keys=keys)
    with pytest.raises(ValueError, match="the model has classes"):
        attack(model, images, labels + 10, "linf", keys=keys)
    with pytest.raises(ValueError, match="does not take images"):
        attack(model, images.repeat(1, 3, 1, 1), labels, "linf", keys=keys)
    model.train()
    try:
        with pytest.raises(ValueError, match="train mode"):
            attack(model, images, labels, "linf", keys=keys)
    finally:
        model.eval()
