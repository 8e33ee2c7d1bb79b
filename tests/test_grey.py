"""The convolution of grey images: nn.Conv2d's numbers, and its gradient by the images."""

import pytest
import torch
from torch import nn

from tests import tiny
from tradeoff.core.folding import fold
from tradeoff.core.grey import GreyConvolution


@pytest.mark.parametrize("size", [(8, 8), (9, 7)])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (5, 1, 0), ((1, 3), (2, 1), (0, 2))]
)
def test_output_and_gradient_are_those_of_a_convolution(
    size: tuple[int, int], kernel: int, stride: int, padding: int
) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(1, 6, kernel, stride, padding).double().requires_grad_(False)
    images = torch.rand(3, 1, *size, dtype=torch.double, requires_grad=True)
    expected = plain(images)
    assert GreyConvolution.takes(plain)
    found = GreyConvolution.of(plain)(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    outer = torch.rand_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, images, outer), torch.autograd.grad(expected, images, outer)
    )


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(3, 4, 3),
        nn.Conv2d(1, 4, 3, dilation=2),
        nn.Conv2d(1, 4, 3, padding="same"),
        nn.Conv2d(1, 4, 3, padding=1, padding_mode="reflect"),
    ],
    ids=["colour", "dilated", "padding by name", "reflecting"],
)
def test_other_convolutions_are_left_as_they_are(other: nn.Conv2d) -> None:
    assert not GreyConvolution.takes(other)


def test_parameters_with_gradients_get_them() -> None:
    layer = GreyConvolution.of(nn.Conv2d(1, 2, 3))
    layer(torch.rand(1, 1, 5, 5)).sum().backward()
    assert layer.weight.grad is not None


def test_the_twin_of_a_network_of_grey_images_begins_with_one() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))
    twin = fold(model)
    assert isinstance(twin.get_submodule("0"), GreyConvolution)
    images, _ = tiny.batch(2)
    torch.testing.assert_close(twin(images), tiny.calm(model)(images))
