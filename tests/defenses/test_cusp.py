"""CuSP: the curriculum, rotations, and the loss on what is rotated."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests import golden, tiny
from tradeoff.defenses import at, cusp
from tradeoff.networks.ascent import InnerAttack
from tradeoff.networks.spatial import rotate
from tradeoff.networks.threat import Threat
from tradeoff.training.schedules import learning_rate


def test_angles_and_radii_grow_where_the_authors_lower_the_rate() -> None:
    epochs = golden.tensor("cusp/epoch").tolist()
    shares = [cusp.phase((epoch - 1) / 120) for epoch in epochs]
    assert [180 * angle for angle, _ in shares] == pytest.approx(
        golden.tensor("cusp/angle_limit").tolist()
    )
    assert [8 * radius for _, radius in shares] == golden.tensor("cusp/radius_255").tolist()
    settings = tiny.settings(
        schedule="step", milestones=["74/120", "89/120", "99/120"], decay=0.1, learning_rate=0.1
    )
    rates = [learning_rate(settings, (epoch - 0.5) / 120) for epoch in epochs]
    assert rates == pytest.approx(golden.tensor("cusp/learning_rate").tolist())


def test_rotations_equal_those_of_the_authors_library() -> None:
    pixels, degrees = golden.tensor("cusp/image"), golden.tensor("cusp/angle")
    nearest = rotate(pixels.double(), degrees, "nearest")
    assert torch.equal(nearest, golden.tensor("cusp/rotated_nearest").double())
    bilinear = rotate(pixels.double() / 255, degrees, "bilinear")
    golden.assert_close(bilinear, golden.tensor("cusp/rotated_bilinear"))


def test_a_quarter_turn_of_an_oblong_image_is_exact_inside() -> None:
    images = torch.zeros(1, 1, 4, 6)
    images[0, 0, 1, 3] = 1.0  # half a pixel right of the centre, half a pixel above it
    turned = rotate(images, torch.tensor([90.0]), "bilinear")
    expected = torch.zeros_like(images)
    expected[0, 0, 1, 2] = 1.0
    torch.testing.assert_close(turned, expected, atol=1e-5, rtol=0)


def test_loss_and_gradients_equal_those_of_the_authors() -> None:
    images, degrees = golden.images().double(), golden.tensor("cusp/angle")
    rotated = rotate(images, degrees, "bilinear")
    golden.assert_close(rotated, golden.tensor("cusp/x_rotated"))
    model = golden.network().double()
    threat = Threat("linf", golden.number("cusp/radius"))
    inner = InnerAttack(threat, int(golden.number("cusp/steps")), golden.number("cusp/step"))
    step = replace(golden.step(tiny.calm(model)), inner=inner)
    adversarial = at.adversarial_examples(rotated, golden.labels(), step)
    torch.testing.assert_close(adversarial, golden.tensor("cusp/x_adv"), atol=1e-6, rtol=0)
    loss = torch.nn.functional.cross_entropy(model(adversarial), golden.labels())
    golden.assert_loss_and_gradients("cusp", model, loss)


@pytest.mark.parametrize(("progress", "angle", "radius"), [(0.0, 20, 0.25), (0.9, 30, 1.0)])
def test_the_whole_loss_in_its_phase(progress: float, angle: float, radius: float) -> None:
    model, (images, labels) = tiny.network(), tiny.batch()
    mine, other = (replace(tiny.step(model), progress=progress) for _ in range(2))
    knobs = cusp.Knobs(angle=30.0, interpolation="bilinear")
    found = cusp.training_loss(model, images, labels, mine, knobs).total
    draws: Tensor = torch.empty(len(images)).uniform_(-1, 1, generator=other.generator)
    rotated = rotate(images, angle * draws, "bilinear")
    inner = replace(other.inner, threat=Threat("linf", radius * tiny.THREAT.epsilon))
    plain = at.training_loss(model, rotated, labels, replace(other, inner=inner), at.Knobs()).total
    torch.testing.assert_close(found, plain)
