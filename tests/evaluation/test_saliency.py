"""Measures of input gradients, in closed form."""

import math

import pytest
import torch
from captum.attr import InputXGradient, Saliency
from torch import nn

from tests import golden, tiny
from tradeoff.evaluation.examples import Examples
from tradeoff.evaluation.saliency import (
    agreement,
    alignment,
    gradient_table,
    measures,
    roughness,
    saliency,
    sparsity,
    tiles,
)


def chessboard(height: int = 4, width: int = 5) -> torch.Tensor:
    signs = 1 - 2.0 * ((torch.arange(height)[:, None] + torch.arange(width)) % 2)
    return signs.double()[None, None]


def test_the_gradient_of_a_linear_network_is_its_row() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    images, classes = tiny.batch(5)
    found = saliency(network, images, classes)
    expected = network[1].weight[classes].double().view(5, 1, 8, 8)
    torch.testing.assert_close(found, expected)


def test_gradients_and_alignments_are_those_of_captum() -> None:
    network = golden.network("robust").eval().double()
    images = golden.images().double()
    classes = network(images).argmax(1)
    found = saliency(network, images, classes)
    points = images.clone().requires_grad_()
    expected = Saliency(network).attribute(points, target=classes, abs=False)
    torch.testing.assert_close(found, expected.detach())
    share = InputXGradient(network).attribute(points, target=classes).detach().flatten(1).sum(1)
    lengths = expected.detach().flatten(1).norm(dim=1)
    torch.testing.assert_close(alignment(images, found), share.abs() / lengths)


def test_alignment_is_the_projection_on_the_gradient() -> None:
    images = torch.tensor([[3.0, 4.0], [1.0, 0.0], [1.0, 1.0]]).view(3, 1, 1, 2)
    gradients = torch.tensor([[-6.0, -8.0], [0.0, 2.0], [0.0, 0.5]]).double().view(3, 1, 1, 2)
    expected = torch.tensor([5.0, 0.0, 1.0]).double()
    torch.testing.assert_close(alignment(images, gradients), expected)
    assert alignment(images, torch.zeros_like(gradients)).isnan().all()


def test_sparsity_goes_from_equal_components_to_a_single_one() -> None:
    single, ramp = torch.zeros(1, 1, 4, 5).double(), torch.arange(1.0, 21).double()
    single[0, 0, 1, 2] = -3.0
    found = sparsity(torch.cat([chessboard(), single, -ramp.view(1, 1, 4, 5)]))
    # Of 1 .. n it is (n - 1) / 3n.
    expected = torch.tensor([0.0, 1 - 1 / 20, 19 / 60]).double()
    torch.testing.assert_close(found, expected)


def test_roughness_goes_from_a_constant_to_a_chessboard() -> None:
    stripes = chessboard()[:, :, :1].repeat(1, 1, 4, 1)  # 16 steps of 2 across, 15 of 0 down
    found = roughness(torch.cat([torch.full((1, 1, 4, 5), -0.2).double(), chessboard(), stripes]))
    torch.testing.assert_close(found, torch.tensor([0.0, 2.0, 32 / 31]).double())
    assert torch.allclose(roughness(7 * chessboard()), found[1:2]), "scale does not count"


def test_agreement_is_a_cosine() -> None:
    one = torch.tensor([[1.0, 0.0], [1.0, 1.0], [2.0, 1.0]]).double().view(3, 1, 1, 2)
    other = torch.tensor([[0.0, 3.0], [2.0, 0.0], [-4.0, -2.0]]).double().view(3, 1, 1, 2)
    expected = torch.tensor([0.0, 1 / math.sqrt(2), -1.0]).double()
    torch.testing.assert_close(agreement(one, other), expected)


def test_a_linear_network_looks_at_the_same_under_attack() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    images, _ = tiny.batch(5)
    probabilities = network(images).softmax(1)
    found = measures(network, images, Examples(1 - images, probabilities, probabilities))
    assert found["agreement"] == pytest.approx(1)
    rows = saliency(network, images, probabilities.argmax(1))
    assert found["alignment"] == pytest.approx(float(alignment(images, rows).mean()))


def test_the_table_tells_which_row_of_the_picture_a_model_has() -> None:
    values = {"alignment": 1.0, "sparsity": 0.5, "roughness": 1.0, "agreement": 0.9}
    keys = [("at", "vgg16", 0), ("at", "vgg16", 1), ("mart", "vgg16", 0)]
    table = gradient_table(dict.fromkeys(keys, values), 0, [("at", "vgg16"), ("mart", "vgg16")], 7)
    assert table["row"].tolist() == [1, 0, 2] and set(table["images"]) == {7}


def test_a_picture_of_a_gradient_is_grey_where_it_is_zero() -> None:
    gradients = torch.tensor([[[[-4.0, 0.0, 2.0]]], [[[0.0, 0.0, 0.0]]]]).double()
    expected = torch.tensor([[0.0, 0.5, 0.75], [0.5, 0.5, 0.5]]).double()
    torch.testing.assert_close(tiles(gradients).view(2, 3), expected)
