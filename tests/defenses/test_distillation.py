"""Defensive distillation and training with noise against golden numbers."""

from dataclasses import replace

import torch
from torch import Tensor

from tests import golden, tiny
from tradeoff.defenses import distillation, distillation_1, distillation_10, gaussian, tempered
from tradeoff.training.contract import Step


def step(model: torch.nn.Module, teacher: torch.nn.Module | None = None) -> Step:
    frozen = tiny.calm(model)
    bases = {} if teacher is None else {"teacher": teacher}
    return golden.GoldenStep(
        frozen, golden.inner_attack(), torch.Generator(), 0, 1, 0.0, model, bases
    )


def gradients(loss: Tensor, model: torch.nn.Module, prefix: str, relative: float = 1e-6) -> None:
    model.zero_grad()
    loss.backward()
    for name, parameter in model.named_parameters():
        golden.assert_close(parameter.grad, golden.tensor(f"{prefix}/{name}"), relative)


def test_the_student_learns_the_teachers_soft_labels() -> None:
    teacher, images = golden.network("sharp").double().eval(), golden.images().double()
    golden.assert_close(
        teacher(images).detach(), golden.tensor("distillation/teacher_logits"), 1e-9
    )
    temperatures = golden.tensor("distillation/temperature").tolist()
    for row, temperature in enumerate(temperatures):
        model = golden.network().double()
        knobs = distillation.Knobs(temperature=temperature)
        loss = distillation.training_loss(
            model, images, golden.labels(), step(model, teacher), knobs
        )
        golden.assert_close(loss.total.detach(), golden.tensor("distillation/loss")[row], 1e-9)
        soft = (teacher(images) / temperature).softmax(1)
        golden.assert_close(soft, golden.tensor("distillation/soft_label")[row], 1e-9)
    for prefix in ("distillation", "distillation/hot"):
        knobs = distillation.Knobs(temperature=golden.number(f"{prefix}/grad_temperature"))
        model = golden.network().double()
        loss = distillation.training_loss(
            model, images, golden.labels(), step(model, teacher), knobs
        )
        gradients(loss.total, model, f"{prefix}/grad")


def test_the_teacher_learns_hard_labels_at_its_temperature() -> None:
    images = golden.images()
    temperatures = golden.tensor("distillation/temperature").tolist()
    for row, temperature in enumerate(temperatures):
        model = golden.network()
        knobs = tempered.Knobs(temperature=temperature)
        loss = tempered.training_loss(model, images, golden.labels(), step(model), knobs).total
        golden.assert_close(loss.detach(), golden.tensor("distillation/teacher_loss")[row])
        if temperature == golden.number("distillation/grad_temperature"):
            gradients(loss, model, "distillation/teacher/grad", 1e-5)


def test_a_row_of_the_sweep_differs_in_its_teacher_alone() -> None:
    teacher, images = golden.network("sharp").double().eval(), golden.images().double()
    for row, base in ((distillation_1, "natural"), (distillation_10, "teacher_10")):
        assert (base,) == row.BASES and row.training_loss is distillation.training_loss
        model = golden.network().double()
        taught = replace(step(model), bases={base: teacher})
        knobs = distillation.Knobs(temperature=10.0)
        loss = row.training_loss(model, images, golden.labels(), taught, knobs)
        place = golden.tensor("distillation/temperature").tolist().index(10)
        golden.assert_close(loss.total.detach(), golden.tensor("distillation/loss")[place], 1e-9)


def test_a_student_at_a_high_temperature_gives_no_gradient_to_the_cross_entropy() -> None:
    """Its break: at the deployed temperature most images' gradients are exactly zero in float32,
    while those of the logits divided by the temperature, or of the margin, are not."""
    sharp, scale = golden.network("sharp").eval(), golden.number("distillation/saturated/scale")
    images, labels = golden.images(), golden.tensor("distillation/saturated/label")

    def zero_share(divisor: float) -> float:
        points = images.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(sharp(points) * scale / divisor, labels)
        (gradient,) = torch.autograd.grad(loss, points)
        return float((gradient.flatten(1).abs().amax(1) == 0).float().mean())

    # Processors differ in whether they take numbers below 1e-38 for 0.
    expected = golden.number("distillation/saturated/zero_share_float32")
    assert abs(zero_share(1) - expected) <= 1 / len(images) and zero_share(scale) == 0


def test_training_with_noise_is_the_cross_entropy_of_noisy_images() -> None:
    model = golden.network().double()
    knobs = gaussian.Knobs(sigma=golden.number("smoothing/sigma"))
    images = golden.images().double()
    loss = gaussian.training_loss(model, images, golden.labels(), step(model), knobs)
    golden.assert_close(loss.total.detach(), golden.tensor("gaussian/loss"), 1e-9)
    gradients(loss.total, model, "gaussian/grad")
