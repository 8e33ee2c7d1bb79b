"""Virtual adversarial training against golden numbers."""

import pytest
import torch

from tests import golden, tiny
from tradeoff.defenses import vat
from tradeoff.networks.threat import perturbation_norm


def direction(xi: float, iterations: int = 1, kind: torch.dtype = torch.float64) -> torch.Tensor:
    model = tiny.calm(golden.network("sharp").to(kind))
    images, noise = golden.images().to(kind), golden.tensor("noise").to(kind)
    return vat.virtual_direction(model, images, noise, xi, iterations)


def cosines(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (one.double() * other.double()).flatten(1).sum(1)


def test_directions_of_one_iteration_and_of_several() -> None:
    for row, xi in enumerate(golden.tensor("vat/xi").tolist()):
        golden.assert_close(direction(xi), golden.tensor("vat/direction")[row], 1e-4)
    for row, count in enumerate(golden.tensor("vat/iterated/count").tolist()):
        found = direction(golden.number("vat/iterated/xi"), count)
        golden.assert_close(found, golden.tensor("vat/iterated/direction")[row], 1e-4)


def test_the_power_method_tends_to_the_hessian_and_to_its_eigenvector() -> None:
    expected = golden.tensor("vat/second_order_direction")
    golden.assert_close(direction(1e-5), expected, 1e-3)
    near = cosines(direction(1e-4, 8), golden.tensor("vat/eigenvector"))
    assert near.abs().mean() > 0.99


def test_the_default_xi_leaves_float32_its_digits_and_the_authors_does_not() -> None:
    expected = golden.tensor("vat/second_order_direction")
    assert cosines(direction(1e-2, kind=torch.float32), expected).mean() > 0.99
    assert cosines(direction(1e-6, kind=torch.float32), expected).mean() < 0.9


def test_the_curvature_along_the_eigenvector_is_its_eigenvalue() -> None:
    """KL(p(x) || p(x + r)) is r' H r / 2 near 0."""
    model = tiny.calm(golden.network("sharp").double())
    images, length = golden.images().double(), 1e-3
    clean = model(images).log_softmax(1)
    moved = images + length * golden.tensor("vat/eigenvector").double()
    curvature = 2 * vat.kl_divergence(clean, model(moved)) / length**2
    golden.assert_close(curvature, golden.tensor("vat/eigenvalue"), 1e-2)


@pytest.mark.parametrize("entropy", [0.0, 1.0])
def test_loss_and_gradients(entropy: float) -> None:
    model, images, labels = golden.network("sharp").double(), golden.images(), golden.labels()
    images, radius = images.double(), golden.number("vat/radius")
    step = golden.step(tiny.calm(model))
    knobs = vat.Knobs(
        radius=radius,
        xi=golden.tensor("vat/xi")[1].item(),
        iterations=1,
        weight=golden.number("vat/weight"),
        entropy=entropy,
    )
    golden.assert_images_close(images + radius * direction(knobs.xi), "vat/perturbed")
    loss = vat.training_loss(model, images, labels, step, knobs)
    golden.assert_close(loss.parts["cross_entropy"], golden.tensor("vat/cross_entropy"))
    golden.assert_close(loss.parts["divergence"], golden.tensor("vat/divergence").mean())
    golden.assert_close(loss.parts["entropy"], golden.tensor("vat/entropy").mean())
    if entropy == 0:
        golden.assert_loss_and_gradients("vat", model, loss.total)
    else:
        expected = golden.tensor("vat/loss") + golden.tensor("vat/entropy").mean()
        golden.assert_close(loss.total.detach(), expected)


def test_the_authors_direction_is_that_of_a_network_in_train_mode() -> None:
    model = golden.network("sharp").double()
    images, noise = golden.images().double(), golden.tensor("noise").double()
    found = vat.virtual_direction(model, images, noise, golden.number("vat/batch_mode/xi"), 1)
    golden.assert_close(found, golden.tensor("vat/batch_mode/direction"), 1e-4)
    step = golden.step(golden.network("sharp").double())  # in train mode, as they attack
    knobs = vat.Knobs(
        radius=golden.number("vat/radius"),
        xi=golden.number("vat/batch_mode/xi"),
        iterations=1,
        weight=golden.number("vat/weight"),
        entropy=0.0,
    )
    loss = vat.training_loss(model, images, golden.labels(), step, knobs)
    divergence = golden.tensor("vat/batch_mode/divergence").mean()
    golden.assert_close(loss.parts["divergence"], divergence)
    entropy = golden.tensor("vat/batch_mode/entropy").mean()
    golden.assert_close(loss.parts["entropy"], entropy)
    golden.assert_close(loss.parts["cross_entropy"], golden.tensor("vat/batch_mode/cross_entropy"))
    golden.assert_loss_and_gradients("vat/batch_mode", model, loss.total)


def test_a_start_of_half_uniform_noise_and_a_far_xi_is_a_ports_method() -> None:
    """What a known port computes: another direction, by the same steps."""
    model = golden.network("sharp").double()
    images, labels = golden.images().double(), golden.labels()
    noise, xi = golden.tensor("uniform").double() / 2, golden.number("vat/torch/xi")
    found = vat.virtual_direction(model, images, noise, xi, 1)
    perturbed = images + golden.number("vat/radius") * found
    golden.assert_close(perturbed, golden.tensor("vat/torch/perturbed"), 1e-4)
    model = golden.network("sharp").double()
    clean = model(images)
    divergence = vat.kl_divergence(clean.detach().log_softmax(1), model(perturbed)).mean()
    golden.assert_close(divergence.detach(), golden.tensor("vat/torch/divergence"), 1e-4)
    loss = torch.nn.functional.cross_entropy(clean, labels)
    total = loss + golden.number("vat/weight") * divergence
    golden.assert_loss_and_gradients("vat/torch", model, total)


def test_directions_have_length_one_and_images_do_not_influence_each_other() -> None:
    together = direction(1e-2)
    torch.testing.assert_close(
        perturbation_norm(together, "l2"), torch.ones(len(together), dtype=torch.float64)
    )
    model = tiny.calm(golden.network("sharp").double())
    images, noise = golden.images()[:3].double(), golden.tensor("noise")[:3].double()
    alone = vat.virtual_direction(model, images, noise, 1e-2, 1)
    torch.testing.assert_close(alone, together[:3])
