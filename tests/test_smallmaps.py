"""The convolution of tiny maps: nn.Conv2d's numbers and gradients, by a matrix product."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.archs import resnet18, vgg16
from tradeoff.core.smallmaps import PIXELS, Convolution3x3


@pytest.fixture
def convolved(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The sizes of the maps that torch's own 3x3 convolution was called for."""
    shapes: list[tuple[int, ...]] = []
    original = nn.Conv2d._conv_forward

    def listed(self: nn.Conv2d, features: Tensor, *rest: Tensor) -> Tensor:
        if self.kernel_size == (3, 3):
            shapes.append(tuple(features.shape[2:]))
        return original(self, features, *rest)

    monkeypatch.setattr(nn.Conv2d, "_conv_forward", listed)
    return shapes


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 3), (4, 1), (2, 1)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_output_and_gradients_are_those_of_a_convolution(
    size: tuple[int, int],
    stride: int,
    bias: bool,
    layout: torch.memory_format,
    convolved: list[tuple[int, ...]],
) -> None:
    torch.manual_seed(0)
    layer = Convolution3x3(3, 5, stride, bias).double()
    features = torch.rand(4, 3, *size, dtype=torch.double).to(memory_format=layout)
    features.requires_grad_()
    expected = F.conv2d(features, layer.weight, layer.bias, stride, padding=1)
    found = layer(features)
    assert not convolved
    torch.testing.assert_close(found, expected)
    outer = torch.rand_like(expected)
    inputs = (features, *layer.parameters())
    torch.testing.assert_close(
        torch.autograd.grad(found, inputs, outer), torch.autograd.grad(expected, inputs, outer)
    )


def test_larger_maps_and_other_devices_are_left_to_torch(convolved: list[tuple[int, ...]]) -> None:
    layer = Convolution3x3(2, 3)
    layer(torch.rand(1, 2, 1, PIXELS))
    assert not convolved
    layer(torch.rand(1, 2, 1, PIXELS + 1))
    layer.to("meta")(torch.rand(1, 2, 1, 1, device="meta"))
    assert convolved == [(1, 5), (1, 1)]


@pytest.mark.parametrize(("architecture", "large"), [(resnet18, 10), (vgg16, 4)])
def test_networks_of_digits_leave_their_tiny_maps_to_it(
    architecture: object, large: int, convolved: list[tuple[int, ...]]
) -> None:
    network = architecture.build(1, 10, 0.125).eval()  # type: ignore[attr-defined]
    network(torch.rand(2, 1, 8, 8))
    assert len(convolved) == large and min(convolved) > (2, 2)
