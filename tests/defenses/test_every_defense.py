"""What all defenses that train keep to, each with its section of params.yaml."""

import copy
import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests import tiny
from tradeoff.core.plugins import constant, defines, module_names
from tradeoff.core.study import Study
from tradeoff.networks.threat import Threat
from tradeoff.training.contract import Step

STUDY = Study.load(Path(__file__).parents[2] / "params.yaml")
NAMES = [
    name
    for name in module_names("defenses", "Knobs")
    if name in STUDY.knobs and defines("defenses", name, "training_loss")
    if constant("defenses", name, "NETWORKS", 1) == 1
    # PixelDefend trains a density model beside the network.
    and constant("defenses", name, "CLASSIFIER") != "purified"
    # The others compute bounds, of networks without BatchNorm.
    and constant("defenses", name, "CERTIFICATE") in (None, "smoothing")
]


def prepared(name: str, threat: Threat) -> tuple[Any, nn.Module, Step]:
    """A defense's module, a tiny network in train mode, and a step on which its bases stand."""
    model = tiny.network()
    roles = constant("defenses", name, "BASES", ())
    bases = {role: tiny.calm(tiny.network(seed)) for seed, role in enumerate(roles, 1)}
    step = replace(tiny.step(model, threat), bases=bases)
    return importlib.import_module(f"tradeoff.defenses.{name}"), model, step


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_loss_is_a_finite_scalar_with_a_gradient(name: str, norm: str) -> None:
    """And what it reports carries none; its inner attack leaves model, twin and bases alone."""
    threat = Threat(norm, 0.1)  # type: ignore[arg-type]
    defense, model, step = prepared(name, threat)
    images, labels = tiny.batch()
    before = copy.deepcopy([step.frozen, *step.bases.values()])
    loss = defense.training_loss(model, images, labels, step, STUDY.knobs[name])
    assert loss.total.shape == () and loss.total.isfinite() and loss.parts
    gradients = torch.autograd.grad(loss.total, list(model.parameters()), allow_unused=True)
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.abs().max() > 0 for gradient in gradients if gradient is not None)
    reported = [*loss.parts.values(), *loss.samples.values(), *loss.classes.values()]
    assert not any(value.requires_grad for value in reported)
    assert model.training and all(value.grad is None for value in model.parameters())
    for other, earlier in zip([step.frozen, *step.bases.values()], before, strict=True):
        assert not other.training
        torch.testing.assert_close(other.state_dict(), earlier.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_generator_gives_the_same_loss(name: str) -> None:
    losses = []
    for _ in range(2):
        defense, model, step = prepared(name, tiny.THREAT)
        images, labels = tiny.batch()
        loss = defense.training_loss(model, images, labels, step, STUDY.knobs[name])
        losses.append(loss.total.item())
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", NAMES)
def test_a_part_of_a_batch_and_an_odd_one_can_be_trained_on(name: str) -> None:
    defense, model, step = prepared(name, tiny.THREAT)
    images, labels = tiny.batch(15)
    part = slice(4, 9)
    inner = replace(step, batch=len(images), part=part)
    for given, rows in ((step, slice(None)), (inner, part)):
        loss = defense.training_loss(
            model, images[rows], labels[rows], given, STUDY.knobs[name]
        ).total
        assert loss.isfinite()
