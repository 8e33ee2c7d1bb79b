"""The networks: published sizes, input sizes, width, and preprocessing inside."""

from types import ModuleType

import pytest
import torch
import torchvision
from torch import nn

from tradeoff.archs import resnet18, vgg16
from tradeoff.networks.models import Blueprint, build_network
from tradeoff.networks.preprocess import Preprocess, scaled

ARCHITECTURES = [resnet18, vgg16]


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def model_of(architecture: ModuleType, channels: int = 3, width: float = 0.125) -> nn.Sequential:
    name = architecture.__name__.split(".")[-1]
    blueprint = Blueprint(name, "any", channels, 10, width)
    return build_network(blueprint, [0.4] * channels, [0.2] * channels, 0)


@pytest.mark.parametrize(
    ("architecture", "published"), [(resnet18, 11_173_962), (vgg16, 14_728_266)]
)
def test_full_width_networks_have_the_published_number_of_parameters(
    architecture: ModuleType, published: int
) -> None:
    assert parameters(architecture.build(3, 10, 1.0)) == published


@pytest.mark.parametrize("size", [8, 16, 28, 32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_inputs_of_all_sizes_give_logits_and_gradients(
    architecture: ModuleType, channels: int, size: int
) -> None:
    model = model_of(architecture, channels)
    draws = torch.Generator().manual_seed(0)
    images = torch.rand(4, channels, size, size, generator=draws).requires_grad_()
    logits = model(images)
    assert logits.shape == (4, 10)
    assert len(torch.unique(logits, dim=0)) == 4
    gradient = torch.autograd.grad(logits.square().sum(), images)[0]
    # Of 8x8 images too, no corner is lost on the way.
    assert (gradient != 0).flatten(1).float().mean() > 0.9


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_28x28_images_are_padded_with_black_inside_the_model(architecture: ModuleType) -> None:
    model = model_of(architecture).eval()
    images = torch.rand(3, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    padded = torch.zeros(3, 3, 32, 32)
    padded[:, :, 2:30, 2:30] = images
    torch.testing.assert_close(model(images), model(padded))


@pytest.mark.parametrize(
    ("size", "seen"), [(8, 8), (16, 16), (17, 32), (28, 32), (31, 32), (32, 32)]
)
def test_only_sizes_near_32_are_padded(size: int, seen: int) -> None:
    layer = Preprocess([0.5, 0.25], [0.5, 2.0])
    images = torch.rand(2, 2, size, size, generator=torch.Generator().manual_seed(0))
    found = layer(images)
    assert found.shape[-2:] == (seen, seen)
    before = (seen - size) // 2
    inner = found[:, :, before : before + size, before : before + size]
    expected = (images - torch.tensor([0.5, 0.25]).view(-1, 1, 1)) / torch.tensor([0.5, 2.0]).view(
        -1, 1, 1
    )
    torch.testing.assert_close(inner, expected)
    if seen > size:
        # Black is padded before normalising.
        torch.testing.assert_close(found[:, 0, 0, -1], torch.full((2,), -1.0))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_width_multiplies_the_channels(architecture: ModuleType) -> None:
    full, half = (architecture.build(3, 10, width) for width in (1.0, 0.5))
    theirs = dict(full.named_modules())
    for name, module in half.named_modules():
        if isinstance(module, nn.Conv2d):
            assert 2 * module.out_channels == theirs[name].out_channels
        if isinstance(module, nn.Linear):
            assert (2 * module.in_features, module.out_features) == (
                theirs[name].in_features,
                10,
            )
    assert parameters(full) / 4.2 < parameters(half) < parameters(full) / 3.8


def test_a_layer_keeps_at_least_one_channel() -> None:
    assert scaled(64, 1e-6) == 1
    assert [scaled(64, width) for width in (0.125, 0.1875, 1.0, 2.0)] == [8, 12, 64, 128]


@pytest.mark.parametrize(("architecture", "theirs"), [(resnet18, "resnet18"), (vgg16, "vgg16_bn")])
def test_it_computes_what_torchvisions_network_of_the_same_weights_does(
    architecture: ModuleType, theirs: str
) -> None:
    """The convolutional part, on images so small that torchvision's layers fit as well."""
    with torch.device("meta"):  # torchvision's VGG has linear layers that take seconds to fill
        reference = getattr(torchvision.models, theirs)(num_classes=10)
        if architecture is resnet18:
            reference.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
            reference.maxpool = nn.Identity()
        else:
            reference.avgpool = nn.AdaptiveAvgPool2d(1)
            reference.classifier = nn.Linear(512, 10)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network, images = architecture.build(3, 10, 1.0), torch.randn(2, 3, 32, 32)
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):  # else the images' share fades from layer to layer
                nn.init.kaiming_normal_(layer.weight)
    reference.load_state_dict(network.state_dict(), assign=True)
    torch.testing.assert_close(
        network.eval()(images), reference.eval()(images), rtol=1e-4, atol=1e-5
    )
