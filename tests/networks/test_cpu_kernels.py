"""The convolutions for a CPU: nn.Conv2d's numbers and gradients."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import tiny
from tradeoff.archs import resnet18, vgg16
from tradeoff.core.plugins import module_names
from tradeoff.networks import cpu_kernels, device, layouts
from tradeoff.networks.cpu_kernels import GreyConvolution, ProductConvolution, use_cpu_kernels
from tradeoff.networks.folding import fold
from tradeoff.networks.layouts import place
from tradeoff.networks.models import Blueprint, build_network


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


def placed(convolution: nn.Conv2d) -> nn.Conv2d:
    use_cpu_kernels(convolution)
    assert type(convolution) is ProductConvolution
    return convolution


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(2, 4, 3, padding=1, dilation=2),
        nn.Conv2d(2, 4, 3, padding=1, groups=2),
        nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(2, 4, 3, padding="same"),
    ],
    ids=["dilated", "grouped", "reflecting", "padding by name"],
)
def test_convolutions_of_another_kind_keep_their_class(other: nn.Conv2d) -> None:
    use_cpu_kernels(other)
    assert type(other) is nn.Conv2d


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
    layer = placed(nn.Conv2d(3, 5, 3, stride, padding=1, bias=bias).double())
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
    layer = placed(nn.Conv2d(2, 3, 3, padding=1))
    layer(torch.rand(1, 2, 1, 4))
    assert not convolved
    layer(torch.rand(1, 2, 1, 5))
    layer.to("meta")(torch.rand(1, 2, 1, 1, device="meta"))
    assert convolved == [(1, 5), (1, 1)]


@pytest.mark.parametrize(("architecture", "large"), [(resnet18, 10), (vgg16, 4)])
def test_networks_of_digits_leave_their_tiny_maps_to_it(
    architecture: object, large: int, convolved: list[tuple[int, ...]]
) -> None:
    network = architecture.build((1, 8, 8), 10, 0.125).eval()  # type: ignore[attr-defined]
    place(network, torch.device("cpu"))
    network(torch.rand(2, 1, 8, 8))
    assert len(convolved) == large and min(convolved) > (2, 2)


@pytest.mark.parametrize("size", [(8, 8), (9, 7)])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (5, 1, 0), ((1, 3), (2, 1), (0, 2))]
)
def test_a_grey_convolutions_output_and_gradient_are_torchs(
    size: tuple[int, int], kernel: int, stride: int, padding: int
) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(1, 6, kernel, stride, padding).double().requires_grad_(False)
    images = torch.rand(3, 1, *size, dtype=torch.double, requires_grad=True)
    expected = plain(images)
    found = grey(plain)(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    outer = torch.rand_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, images, outer), torch.autograd.grad(expected, images, outer)
    )


def test_a_grey_convolutions_gradient_has_a_derivative_itself() -> None:
    torch.manual_seed(0)
    layer = grey(nn.Conv2d(1, 2, 3).double().requires_grad_(False))
    images = torch.rand(1, 1, 4, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda given: layer(given).square(), images)


def grey(plain: nn.Conv2d) -> nn.Conv2d:
    layer = copy.deepcopy(plain)
    use_cpu_kernels(layer)
    assert type(layer) is GreyConvolution
    return layer


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
    use_cpu_kernels(other)
    assert not isinstance(other, GreyConvolution)


def test_parameters_with_gradients_get_them() -> None:
    layer = grey(nn.Conv2d(1, 2, 3))
    layer(torch.rand(1, 1, 5, 5)).sum().backward()
    assert layer.weight.grad is not None


def test_the_twin_of_a_network_of_grey_images_begins_with_one() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))
    twin = fold(model)
    assert isinstance(twin.get_submodule("0"), GreyConvolution)
    images, _ = tiny.batch(2)
    torch.testing.assert_close(twin(images), tiny.calm(model)(images))


@pytest.fixture
def portable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products as with portable arithmetic, whatever the libraries of this process were told."""
    monkeypatch.setattr(device._State, "portable", True)


@pytest.mark.usefixtures("portable")
@pytest.mark.parametrize("size", [(6, 5), (2, 1)])
@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv2d(3, 5, 3, padding=1),
        nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False),
        nn.Conv2d(4, 6, 1, stride=2),
        nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 0)),
        nn.Conv2d(3, 4, 2, padding=2),
    ],
)
def test_a_convolution_as_a_product_has_torchs_numbers_and_all_gradients(
    convolution: nn.Conv2d, size: tuple[int, int]
) -> None:
    convolution = convolution.double()
    maps = torch.randn(3, convolution.in_channels, *size, dtype=torch.float64, requires_grad=True)
    if size == (2, 1) and convolution.kernel_size == (3, 2):
        maps = F.pad(maps, (0, 1))

    def values_and_gradients() -> list[Tensor]:
        result = convolution(maps)
        total = result.square().sum()
        return [result, *torch.autograd.grad(total, (maps, *convolution.parameters()))]

    expected = values_and_gradients()
    use_cpu_kernels(convolution)
    torch.testing.assert_close(values_and_gradients(), expected)
    inputs = (maps.detach().requires_grad_(), *convolution.parameters())
    assert torch.autograd.gradgradcheck(
        lambda x, *_: convolution(x).square(), inputs, fast_mode=True
    )


@pytest.mark.usefixtures("portable")
@pytest.mark.parametrize("affine", [True, False])
def test_a_norm_between_products_has_torchs_numbers_and_statistics(affine: bool) -> None:
    block = nn.Sequential(nn.BatchNorm2d(3, affine=affine), nn.ReLU(inplace=True)).double()
    alike = copy.deepcopy(block)
    use_cpu_kernels(alike)
    images_innermost = torch.randn(3, 5, 2, 4, dtype=torch.float64, requires_grad=True)
    maps = images_innermost.permute(3, 0, 1, 2)
    outer = torch.randn_like(maps)
    for mode in (True, False):
        expected, found = block.train(mode)(maps), alike.train(mode)(maps)
        assert found.stride() == maps.stride()
        torch.testing.assert_close(found, expected)
        inputs = (images_innermost, *block.parameters()), (images_innermost, *alike.parameters())
        torch.testing.assert_close(
            torch.autograd.grad(found, inputs[1], outer),
            torch.autograd.grad(expected, inputs[0], outer),
        )
    torch.testing.assert_close(alike.state_dict(), block.state_dict())


@pytest.mark.usefixtures("portable")
def test_a_rectifier_may_write_over_what_a_convolution_gives() -> None:
    block = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.ReLU(inplace=True))
    images = torch.randn(2, 2, 4, 4, requires_grad=True)
    expected = torch.autograd.grad(block(images).square().sum(), images)
    use_cpu_kernels(block)
    torch.testing.assert_close(torch.autograd.grad(block(images).square().sum(), images), expected)


@pytest.mark.usefixtures("portable")
def test_a_pool_between_products_has_torchs_numbers_and_gradient() -> None:
    pool = nn.MaxPool2d(2)
    maps = torch.randn(6, 4, 5, 3, requires_grad=True).permute(3, 0, 1, 2)
    expected = pool(maps)
    for _ in range(2):  # once more changes nothing
        use_cpu_kernels(pool)
    found = pool(maps)
    assert torch.equal(found, expected)
    assert found.permute(1, 2, 3, 0).is_contiguous()
    gradients = [
        torch.autograd.grad(pooled.square().sum(), maps)[0] for pooled in (found, expected)
    ]
    assert torch.equal(*gradients)


@pytest.mark.parametrize("name", module_names("archs", "build"))
def test_every_architecture_has_the_same_numbers_with_portable_kernels(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    blueprint = Blueprint(name, "any", (3, 16, 16), 10, 0.125)
    model = build_network(blueprint, [0.4] * 3, [0.2] * 3, 0).double().eval()
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)).double()
    results = []
    for portable in (False, True):
        monkeypatch.setattr(device._State, "portable", portable)
        points = images.clone().requires_grad_()
        logits = place(model, torch.device("cpu"))(points)
        results.append((logits.detach(), torch.autograd.grad(logits.logsumexp(1).sum(), points)))
    convolutions = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    assert all(isinstance(layer, ProductConvolution) for layer in convolutions)
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("arithmetic", ["native", "portable"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_placed_network_can_be_traced(
    channels: int, arithmetic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (cpu_kernels, layouts):
        monkeypatch.setattr(module, "arithmetic_is_portable", lambda: arithmetic == "portable")
    images = torch.rand(3, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    network = resnet18.build((channels, 8, 8), 10, 0.0625).eval()
    place(network, torch.device("cpu"))
    traced = torch.jit.trace(network, images)
    more = torch.rand(5, channels, 8, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(traced(more), network(more), rtol=1e-4, atol=1e-5)
