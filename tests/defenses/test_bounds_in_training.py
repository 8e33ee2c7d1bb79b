"""Training on bounds: what each loss is, how epsilon grows, and that something is proved."""

from contextlib import nullcontext
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import tiny
from tradeoff.certificates.bounds.exact import exact
from tradeoff.certificates.bounds.graph import NoBounds, read
from tradeoff.certificates.bounds.interval import from_intervals, intervals
from tradeoff.certificates.bounds.objective import worst_logits
from tradeoff.certificates.bounds.relaxation import ball
from tradeoff.core.plugins import constant, module_names
from tradeoff.datasets.prepared import Prepared, Subset
from tradeoff.defenses import crown_ibp, interval, outer_polytope
from tradeoff.networks.models import Blueprint, build_network
from tradeoff.networks.threat import Threat
from tradeoff.training.loop import fit
from tradeoff.training.plan import Plan

POLYTOPE = {"start": 0.5, "ramp": 0.5, "projections": None, "clipped": True}
CASES: list[tuple[ModuleType, dict[str, Any]]] = [
    (outer_polytope, POLYTOPE),
    (outer_polytope, POLYTOPE | {"projections": 10, "start": 0.1}),
    (interval, {"ramp": 0.5, "natural": 0.25}),
    (crown_ibp, {"ramp": 0.5}),
]


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 4, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 16), nn.ReLU(),
            nn.Linear(16, tiny.CLASSES),
        )  # fmt: skip


def loss_of(defense: ModuleType, knobs: dict[str, Any], epoch: int) -> Tensor:
    """In epoch `epoch` of 4, on a fixed batch and the threat of `tiny`."""
    images, labels = tiny.batch()
    model = network()
    step = replace(tiny.step(model, epoch=epoch), network=model)
    loss: Tensor = defense.training_loss(model, images, labels, step, defense.Knobs(**knobs)).total
    return loss


def bounds_of(epsilon: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cross-entropies on the same batch: exact, of intervals, of the dual on them, and clean."""
    images, labels = tiny.batch()
    graph = read(model := network(), images)
    around = ball(images, epsilon, "linf", clipped=True, graph=graph)
    boxes = intervals(graph, around)
    worst = [worst_logits(b, labels) for b in (exact(graph, around), boxes)]
    mixed = (worst[1] + worst_logits(from_intervals(boxes), labels)) / 2
    everything = [F.cross_entropy(logits, labels) for logits in (*worst, mixed, model(images))]
    return everything[0], everything[1], everything[2], everything[3]


def test_the_losses_are_cross_entropies_of_the_worst_logits_at_the_grown_radius() -> None:
    epsilon = tiny.THREAT.epsilon
    late, half, middle = bounds_of(epsilon), bounds_of(epsilon / 2), bounds_of(0.75 * epsilon)
    torch.testing.assert_close(loss_of(outer_polytope, POLYTOPE, 0), half[0])
    torch.testing.assert_close(loss_of(outer_polytope, POLYTOPE, 1), middle[0])
    torch.testing.assert_close(loss_of(outer_polytope, POLYTOPE, 2), late[0])
    knobs = {"ramp": 0.5, "natural": 0.25}
    torch.testing.assert_close(loss_of(interval, knobs, 0), late[3])
    expected = 0.625 * half[3] + 0.375 * half[1]
    torch.testing.assert_close(loss_of(interval, knobs, 1), expected)
    torch.testing.assert_close(loss_of(interval, knobs, 3), 0.25 * late[3] + 0.75 * late[1])
    torch.testing.assert_close(loss_of(crown_ibp, {"ramp": 0.5}, 1), half[2])
    torch.testing.assert_close(loss_of(crown_ibp, {"ramp": 0.5}, 3), late[1])


def test_projections_estimate_the_exact_loss() -> None:
    whole = float(loss_of(outer_polytope, POLYTOPE, 3).detach())
    estimate = float(loss_of(outer_polytope, POLYTOPE | {"projections": 50}, 3).detach())
    assert estimate != whole and abs(estimate - whole) < 0.25 * whole


def patterns() -> Prepared:
    """Images of four patterns that stand out of the noise."""
    draws = torch.Generator().manual_seed(0)
    classes = torch.rand(tiny.CLASSES, 1, 8, 8, generator=draws)

    def subset(count: int) -> Subset:
        labels = torch.arange(count) % tiny.CLASSES
        noise = torch.rand(count, 1, 8, 8, generator=draws)
        return Subset((255 * (0.7 * classes[labels] + 0.3 * noise)).byte(), labels, white=255)

    return replace(tiny.made_up(), train=subset(96), validation=subset(32), test=subset(32))


@pytest.mark.parametrize(("defense", "knobs"), CASES)
def test_training_proves_something_and_never_more_than_attacks_leave(
    defense: ModuleType, knobs: dict[str, Any]
) -> None:
    settings = tiny.settings(epochs=10, learning_rate=0.02)
    plan = Plan(defense, defense.Knobs(**knobs), settings, Threat("linf", 0.08), 0)
    history = fit(network(), patterns(), plan, lambda *_: None).history
    proved = [row["validation_certified_accuracy"] for row in history]
    chosen = next(row for row in history if row["selected"])
    assert chosen["validation_certified_accuracy"] == max(proved) > 0.5
    for row in history:
        assert row["validation_certified_accuracy"] <= row["validation_robust_accuracy"]


@pytest.mark.parametrize("architecture", module_names("archs", "build"))
def test_a_network_says_whether_there_are_bounds_of_it_in_train_mode(architecture: str) -> None:
    blueprint = Blueprint(architecture, "digits", (1, 8, 8), 10, 0.07)
    network = build_network(blueprint, [0.5], [0.5], 0).train()
    says_so = constant("archs", architecture, "TRAINS_ON_BOUNDS", False)
    with nullcontext() if says_so else pytest.raises(NoBounds):
        read(network, torch.rand(2, 1, 8, 8))
