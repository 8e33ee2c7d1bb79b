"""The networks: published sizes, input sizes, width, and preprocessing inside."""

import importlib
from types import ModuleType

import pytest
import torch
import torchvision
from torch import nn

from tradeoff.archs import resnet18, vgg16
from tradeoff.core.plugins import module_names
from tradeoff.networks.models import Blueprint, build_network
from tradeoff.networks.preprocess import Preprocess, scaled

NAMES = module_names("archs", "build")
ARCHITECTURES = [importlib.import_module(f"tradeoff.archs.{name}") for name in NAMES]

# Parameters at full width for ten classes, by the shape of the images, and who published them.
PUBLISHED = {
    "densenet121": ((3, 32, 32), 7_978_856 - 990 * 1025 - 3 * 40 * 64 - 128),  # torchvision
    "googlenet": ((3, 32, 32), 6_624_904 - 990 * 1025 - 3 * 40 * 64),  # torchvision
    "mlp": ((1, 1, 561), 512 * 562 + 256 * 513 + 10 * 257),
    "nin": ((3, 32, 32), 966_986),  # Lin et al.
    "preactresnet18": ((3, 32, 32), 11_172_170),  # Rice et al. 2020
    "resnet18": ((3, 32, 32), 11_173_962),
    "smallcnn": ((1, 28, 28), 312_202),  # TRADES
    "softplus": ((1, 8, 8), 64 * 65 + 10 * 65),
    "vgg16": ((3, 32, 32), 14_728_266),
    "wideresnet28_10": ((3, 32, 32), 36_479_194),
    "wideresnet34_10": ((3, 32, 32), 46_160_474),
    "wonglarge": ((1, 28, 28), 1_974_762),
    "wongresnet": ((3, 32, 32), 4_214_850),
    "wongsmall": ((1, 28, 28), 166_406),
}


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def model_of(
    architecture: ModuleType, image: tuple[int, int, int] = (3, 32, 32), width: float = 0.125
) -> nn.Sequential:
    name = architecture.__name__.split(".")[-1]
    blueprint = Blueprint(name, "any", image, 10, width)
    model = build_network(blueprint, [0.4] * image[0], [0.2] * image[0], 0)
    if name == "smallcnn":  # its last layer begins at zero
        nn.init.ones_(model[1].fc3.bias)
        nn.init.uniform_(model[1].fc3.weight, generator=torch.Generator().manual_seed(1))
    return model


@pytest.mark.parametrize("name", NAMES)
def test_full_width_networks_have_the_published_number_of_parameters(name: str) -> None:
    image, published = PUBLISHED[name]
    with torch.device("meta"):
        network = importlib.import_module(f"tradeoff.archs.{name}").build(image, 10, 1.0)
    assert parameters(network) == published


@pytest.mark.parametrize(
    "image",
    [(1, 8, 8), (3, 16, 16), (1, 28, 28), (3, 32, 32), (3, 48, 33), (1, 1, 561), (1, 5, 3)],
)
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=NAMES)
def test_inputs_of_all_sizes_give_logits_and_gradients(
    architecture: ModuleType, image: tuple[int, int, int]
) -> None:
    model = model_of(architecture, image)
    draws = torch.Generator().manual_seed(0)
    images = torch.rand(4, *image, generator=draws).requires_grad_()
    logits = model(images)
    assert logits.shape == (4, 10)
    assert len(torch.unique(logits, dim=0)) == 4
    gradient = torch.autograd.grad(logits.square().sum(), images)[0]
    # Of 8x8 images too, no corner is lost on the way.
    assert (gradient != 0).flatten(1).float().mean() > (0.9 if image[2] % 4 == 0 else 0.5)


@pytest.mark.parametrize("architecture", [resnet18, vgg16])
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


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=NAMES)
def test_width_multiplies_the_channels(architecture: ModuleType) -> None:
    with torch.device("meta"):
        full, half = (architecture.build((3, 32, 32), 10, width) for width in (1.0, 0.5))
    theirs = dict(full.named_modules())
    for name, module in half.named_modules():
        for side in ("in_channels", "out_channels", "in_features", "out_features"):
            count = getattr(module, side, None)
            if count not in (None, 3, 10, 3 * 32 * 32):  # images and classes
                assert 2 * count == getattr(theirs[name], side)
    assert parameters(full) / 4.2 < parameters(half) < parameters(full) / 1.9


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
        network, images = architecture.build((3, 32, 32), 10, 1.0), torch.randn(2, 3, 32, 32)
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):  # else the images' share fades from layer to layer
                nn.init.kaiming_normal_(layer.weight)
    reference.load_state_dict(network.state_dict(), assign=True)
    torch.testing.assert_close(
        network.eval()(images), reference.eval()(images), rtol=1e-4, atol=1e-5
    )
