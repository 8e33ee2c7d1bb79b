"""The polytope's detector: what it accepts is proved, what it scores an attack can lower."""

import pytest
import torch
from torch import Tensor

from tests import golden
from tests.certificates.networks import network
from tradeoff.attacks.evading import evading
from tradeoff.attacks.pgd import Knobs as Budget
from tradeoff.certificates.outer_polytope import holds
from tradeoff.classifiers.proving import Knobs, Proving, build
from tradeoff.networks.ascent import input_gradient
from tradeoff.networks.folding import attacked_twin
from tradeoff.networks.randomness import sample_keys
from tradeoff.networks.threat import Threat


@pytest.fixture
def detector() -> Proving:
    stage, epsilon = network("plain", "cascade/model0"), golden.number("certified/cascade/eps")
    found = build([stage], Knobs(norm="linf", epsilon=epsilon), image=(1, 8, 8), seed=0)
    assert isinstance(found, Proving)
    return found.eval().requires_grad_(False)


def images() -> Tensor:
    return golden.tensor("certified/cascade/x")


def test_it_rejects_above_0_what_the_certificate_does_not_prove(detector: Proving) -> None:
    score, predictions = detector.rejection_score(images()), detector(images()).argmax(1)
    held = holds(detector.network, images(), predictions, detector.threat)
    assert torch.equal(score < 0, held) and held.any() and not held.all()
    torch.testing.assert_close(detector(images()), detector.network(images()))


def test_the_score_falls_along_its_gradient_and_in_the_twin_as_well(detector: Proving) -> None:
    inner = images().clamp(0.01, 0.99)
    slope = input_gradient(detector.rejection_score, inner)
    step = 1e-6 * slope
    change = detector.rejection_score(inner + step) - detector.rejection_score(inner)
    expected = 1e-6 * slope.square().flatten(1).sum(1)
    assert float((change / expected - 1).abs().median()) < 1e-3
    twin = attacked_twin(detector, images())
    score = twin.rejection_score(images())  # type: ignore[operator]
    torch.testing.assert_close(score, detector.rejection_score(images()))


def test_what_evades_it_is_wrong_and_below_the_threshold(detector: Proving) -> None:
    """At a threshold of 0 nothing within epsilon evades; at one so high that nothing is rejected,
    what is near enough does."""
    points = images()
    labels = detector(points).argmax(1)
    budget = Budget(loss="cross_entropy", steps=5, relative_step_size=0.3, restarts=1)
    keys, threat = (
        sample_keys(torch.arange(len(points)), "test"),
        Threat("linf", 0.9 * detector.threat.epsilon),
    )
    for threshold, evades in ((-1e-6, False), (1e6, True)):
        found = evading(
            detector, points, labels, budget, threat, keys,
            score=detector.rejection_score, threshold=threshold,
        ).images  # fmt: skip
        wrong = detector(found).argmax(1) != labels
        accepted = detector.rejection_score(found) <= threshold
        assert bool((wrong & accepted).any()) is evades
