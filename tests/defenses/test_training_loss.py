"""What every defense's whole training loss has in common, and what its knobs do."""

import copy
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import tiny
from tradeoff.core.schema import Section
from tradeoff.defenses import (
    at,
    distillation,
    dtrades,
    faal,
    gaussian,
    mart,
    standard,
    tempered,
    trades,
)
from tradeoff.defenses.trades import objective as trades_objective
from tradeoff.networks.ascent import ascend_cross_entropy, ascend_divergence
from tradeoff.networks.threat import Threat, perturbation_norm
from tradeoff.training.contract import Step

DEFENSES: dict[str, tuple[ModuleType, Section]] = {
    "standard": (standard, standard.Knobs()),
    "at": (at, at.Knobs()),
    "trades": (trades, trades.Knobs(beta=3.0)),
    "dtrades": (dtrades, dtrades.Knobs(alpha=2.0, beta=0.5, differentiable=False)),
    "dtrades, differentiable": (
        dtrades,
        dtrades.Knobs(alpha=2.0, beta=0.5, differentiable=True),
    ),
    "mart": (mart, mart.Knobs(beta=4.0)),
    "faal": (faal, faal.Knobs(radius=0.5)),
    "tempered": (tempered, tempered.Knobs(temperature=20.0)),
    "distillation": (distillation, distillation.Knobs(temperature=20.0)),
    "gaussian": (gaussian, gaussian.Knobs(sigma=0.25)),
}
# What the train-mode forwards of each are: x the images, ' the adversarial ones.
FORWARDS = dict(zip(DEFENSES, ["x", "'", "x'", "x'", "x'", "x'", "'", "x", "x", "'"], strict=True))


def composed(
    name: str, model: nn.Module, images: Tensor, labels: Tensor, step: Step
) -> tuple[Tensor, Tensor]:
    """The loss written out from its parts, and the adversarial examples it is taken at."""
    eval_logits = step.frozen(images)
    if name == "standard":
        return F.cross_entropy(model(images), labels), images
    if name == "tempered":
        return F.cross_entropy(model(images) / 20, labels), images
    if name == "distillation":
        soft = (step.bases["teacher"](images) / 20).softmax(1)
        return -(soft * (model(images) / 20).log_softmax(1)).sum(1).mean(), images
    if name == "gaussian":
        noisy = images + 0.25 * step.gaussian_noise(images)
        return F.cross_entropy(model(noisy), labels), noisy
    if name.startswith(("trades", "dtrades")):
        start = step.gaussian_start(images)
        clean = eval_logits.log_softmax(1)
        attacked = ascend_divergence(step.frozen, images, clean, start, step.inner)
    else:
        start = step.gaussian_start(images) if name == "mart" else step.random_start(images)
        attacked = ascend_cross_entropy(step.frozen, images, labels, start, step.inner)
    if name == "at":
        return F.cross_entropy(model(attacked), labels), attacked
    if name == "faal":
        return faal.objective(model(attacked), labels, 0.5)[0], attacked
    clean_logits = model(images)
    if name == "mart":
        return mart.objective(clean_logits, model(attacked), labels, 4.0)[0], attacked
    if name.startswith("dtrades"):
        through = name.endswith("differentiable")
        weight = dtrades.adaptive_weight(
            model if through else step.frozen,
            clean_logits if through else eval_logits,
            attacked,
            alpha=2.0,
            beta=0.5,
            differentiable=through,
        ).weight
        return trades_objective(clean_logits, model(attacked), labels, weight)[0], attacked
    return trades_objective(clean_logits, model(attacked), labels, 3.0)[0], attacked


def gradients(loss: Tensor, model: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


@pytest.mark.parametrize("name", DEFENSES)
def test_training_loss_is_its_objective_at_its_attack(name: str) -> None:
    defense, knobs = DEFENSES[name]
    images, labels = tiny.batch()
    model = tiny.network()
    loss = defense.training_loss(model, images, labels, tiny.step(model), knobs).total
    other = tiny.network()
    expected, _ = composed(name, other, images, labels, tiny.step(other))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradients(loss, model), gradients(expected, other))


@pytest.mark.parametrize("name", DEFENSES)
def test_statistics_are_those_of_the_train_mode_forwards_alone(name: str) -> None:
    defense, knobs = DEFENSES[name]
    images, labels = tiny.batch()
    model = tiny.network()
    _, attacked = composed(name, tiny.network(), images, labels, tiny.step(model))
    expected = tiny.network()
    for forward in FORWARDS[name]:
        expected(images if forward == "x" else attacked)
    defense.training_loss(model, images, labels, tiny.step(model), knobs)
    assert model.training
    torch.testing.assert_close(dict(model.named_buffers()), dict(expected.named_buffers()))


@pytest.mark.parametrize("name", DEFENSES)
def test_the_attack_sees_the_eval_mode_twin_only(name: str) -> None:
    """Another twin, another attack; and the twin keeps its mode and statistics."""
    defense, knobs = DEFENSES[name]
    images, labels = tiny.batch()
    model = tiny.network()
    step = tiny.step(model)
    before = copy.deepcopy(step.frozen.state_dict())
    defense.training_loss(model, images, labels, step, knobs)
    assert not step.frozen.training
    torch.testing.assert_close(step.frozen.state_dict(), before, rtol=0, atol=0)
    if name in ("standard", "tempered", "distillation", "gaussian"):
        return  # they attack nothing
    mine = defense.training_loss(model, images, labels, tiny.step(model), knobs).total
    stranger = tiny.step(tiny.network(seed=1))
    assert defense.training_loss(model, images, labels, stranger, knobs).total < mine


@pytest.mark.parametrize("name", DEFENSES)
def test_what_is_reported_carries_no_gradient_and_one_number_each(name: str) -> None:
    defense, knobs = DEFENSES[name]
    images, labels = tiny.batch()
    model = tiny.network()
    loss = defense.training_loss(model, images, labels, tiny.step(model), knobs)
    groups: list[tuple[dict[str, Tensor], tuple[int, ...]]] = [
        (loss.parts, ()),
        (loss.samples, (len(images),)),
        (loss.classes, (tiny.CLASSES,)),
    ]
    assert loss.parts
    for values, shape in groups:
        for value in values.values():
            assert value.shape == shape and not value.requires_grad and value.isfinite().all()


WEIGHTS: dict[str, tuple[ModuleType, Callable[[float], Section]]] = {
    "trades.beta": (trades, lambda beta: trades.Knobs(beta=beta)),
    "mart.beta": (mart, lambda beta: mart.Knobs(beta=beta)),
    "dtrades.alpha": (
        dtrades,
        lambda alpha: dtrades.Knobs(alpha=alpha, beta=0.0, differentiable=False),
    ),
    "dtrades.beta": (
        dtrades,
        lambda beta: dtrades.Knobs(alpha=0.0, beta=beta, differentiable=False),
    ),
}


@pytest.mark.parametrize("knob", WEIGHTS)
def test_a_weight_multiplies_its_term(knob: str) -> None:
    defense, knobs = WEIGHTS[knob]
    images, labels = tiny.batch()
    losses = []
    for weight in (0.0, 1.0, 2.5):
        model = tiny.network().double()
        loss = defense.training_loss(
            model, images.double(), labels, tiny.step(model), knobs(weight)
        )
        losses.append(loss.total.item())
    assert losses[1] > losses[0]
    assert losses[2] - losses[0] == pytest.approx(2.5 * (losses[1] - losses[0]), rel=1e-3)


def test_dtrades_without_weight_is_standard_training() -> None:
    images, labels = tiny.batch()
    model = tiny.network()
    knobs = dtrades.Knobs(alpha=0.0, beta=0.0, differentiable=False)
    loss = dtrades.training_loss(model, images, labels, tiny.step(model), knobs).total
    torch.testing.assert_close(loss, F.cross_entropy(model(images), labels))


@pytest.mark.parametrize("batch", [None, 8])
def test_starts_do_not_depend_on_how_images_lie_in_memory(batch: int | None) -> None:
    images = torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    turned = images.contiguous(memory_format=torch.channels_last)
    for start in ("random_start", "gaussian_start"):
        plain, other = (
            getattr(replace(tiny.step(tiny.network()), batch=batch), start)(given)
            for given in (images, turned)
        )
        assert torch.equal(plain, other)
        assert other.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_start_points(norm: str) -> None:
    images, _ = tiny.batch(64)
    model = tiny.network()
    step = tiny.step(model, Threat(norm, 0.3))  # type: ignore[arg-type]
    start = step.random_start(images)
    distance = perturbation_norm(start - images, norm)  # type: ignore[arg-type]
    assert distance.max() <= 0.3 + 1e-6 and distance.min() > 0.05
    assert start.min() >= 0 and start.max() <= 1
    noise = (step.gaussian_start(images) - images) / 0.001
    assert abs(noise.mean().item()) < 0.05 and abs(noise.std().item() - 1) < 0.05
