"""Square Attack against the authors' code, in strength, and against its own promises."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyautoattack.square import SquareAttack

from tests.attacks.calls import square
from tests.attacks.trained import L2, LINF, trained
from tradeoff.attacks import square as module
from tradeoff.attacks.square import square_share
from tradeoff.networks.randomness import sample_keys
from tradeoff.networks.threat import Threat, perturbation_norm

THREATS = pytest.mark.parametrize("threat", [LINF, L2], ids=lambda threat: threat.norm)


@THREATS
def test_is_as_strong_as_the_authors_code(threat: Threat) -> None:
    model, images, labels, keys = trained()
    found = square(model, images, labels, threat, keys=keys, queries=200)
    reference = SquareAttack(
        model, n_queries=200, norm={"linf": "Linf", "l2": "L2"}[threat.norm], eps=threat.epsilon,
        seed=0, resc_schedule=False, device="cpu",
    )  # fmt: skip
    theirs = reference.perturb(images, labels)
    ours_accuracy = (model(found.images).argmax(1) == labels).double().mean()
    assert ours_accuracy <= (model(theirs).argmax(1) == labels).double().mean() + 0.005


def test_schedule_is_that_of_the_paper() -> None:
    shares = [square_share(step) for step in (0, 10, 11, 51, 201, 501, 1001, 4001, 9999)]
    halvings = [0, 0, 1, 2, 3, 4, 5, 7, 9]
    assert shares == [0.8 / 2**halving for halving in halvings]


@settings(max_examples=10, deadline=None, derandomize=True)
@given(norm=st.sampled_from(["linf", "l2"]), epsilon=st.floats(0, 2), seed=st.integers(0, 2**31))
def test_results_stay_in_the_ball_and_the_range(norm: str, epsilon: float, seed: int) -> None:
    model, images, labels, _ = trained().first(20)
    epsilon = min(epsilon, 1.0) if norm == "linf" else epsilon
    keys, threat = sample_keys(torch.arange(20), seed), Threat(norm, epsilon)
    found = square(model, images, labels, threat, keys=keys, queries=40).images
    assert float(perturbation_norm(found - images, norm).max()) <= epsilon + 1e-6
    assert float(found.min()) >= 0 and float(found.max()) <= 1


@THREATS
def test_batches_change_neither_verdict_nor_queries(threat: Threat) -> None:
    model, images, labels, keys = trained().first(40)
    whole = square(model, images, labels, threat, keys=keys, queries=70)  # two draws of 64
    order = torch.arange(39, -1, -1)
    parts = square(
        model, images[order], labels[order], threat, keys=keys[order], queries=70, batch_size=17
    )
    assert torch.equal(whole.queries, parts.queries[order])
    assert torch.allclose(whole.images, parts.images[order], atol=1e-6)


@THREATS
def test_starting_points_belong_to_the_sample(threat: Threat) -> None:
    """With one query the start is what comes back."""
    model, images, labels, keys = trained().first(40)
    whole = square(model, images, labels, threat, keys=keys, queries=1).images
    alone = square(model, images[7:9], labels[7:9], threat, keys=keys[7:9], queries=1).images
    assert torch.equal(whole[7:9], alone)
    other = square(model, images[7:9], labels[7:9], threat, keys=keys[17:19], queries=1).images
    assert not torch.equal(whole[7:9], other)


def test_queries_are_the_passes_and_the_proposals_that_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A square of what is there already costs a query, as in the paper, but no pass."""
    model, images, labels, keys = trained().first(30)
    propose, seen, unchanged = module._new_square, 0, 0

    def watch(*inputs: Any) -> torch.Tensor:
        nonlocal unchanged
        candidates = propose(*inputs)
        unchanged += int((candidates == inputs[1]).flatten(1).all(1).sum())
        return candidates

    def count(_model: object, inputs: tuple[torch.Tensor], _logits: object) -> None:
        nonlocal seen
        seen += len(inputs[0])

    monkeypatch.setattr(module, "_new_square", watch)
    handle = model.register_forward_hook(count)
    try:
        found = square(model, images, labels, LINF, keys=keys, queries=50)
    finally:
        handle.remove()
    assert unchanged > 0
    # The check of the inputs looks at one image.
    assert int(found.queries.sum()) == seen - 1 + unchanged
    fooled = model(found.images).argmax(1) != labels
    assert found.queries[~fooled].eq(51).all() and found.queries[fooled].lt(52).all()


def test_unused_budget_and_sizes_that_are_not_square() -> None:
    """Colour images of any shape work, smaller than the grid of tiles too."""
    for shape in ((3, 12, 7), (2, 3, 4)):
        size = shape[0] * shape[1] * shape[2]
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(size, 3)).eval()
        images = torch.rand(4, *shape, generator=torch.Generator().manual_seed(0))
        labels = model(images).argmax(1)
        for threat in (LINF, L2):
            found = square(model, images, labels, threat, keys=torch.arange(4), queries=300).images
            distance = perturbation_norm(found - images, threat.norm)
            assert float(distance.max()) <= threat.epsilon + 1e-6
            assert float(distance.min()) > 0


def test_unsuitable_inputs_are_refused() -> None:
    model, images, labels, keys = trained().first(5)
    with pytest.raises(ValueError, match="NaN or outside"):
        square(model, images * float("nan"), labels, LINF, keys=keys)
    with pytest.raises(ValueError, match="the model has classes"):
        square(model, images, labels + 10, LINF, keys=keys)
    with pytest.raises(ValueError, match="does not take images"):
        square(model, images.repeat(1, 3, 1, 1), labels, LINF, keys=keys)
    model.train()
    try:
        with pytest.raises(ValueError, match="train mode"):
            square(model, images, labels, LINF, keys=keys)
    finally:
        model.eval()
