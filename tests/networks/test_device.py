"""The layout that a model gets: channels-last where convolutions are safe and fast with it."""

import copy
import platform
import resource
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from tests import tiny
from tradeoff.networks import device
from tradeoff.networks.cpu_kernels import GreyConvolution
from tradeoff.networks.device import MATRIX_BACKENDS, NoSuchDevice, TooLate, pick_device
from tradeoff.networks.folding import fold
from tradeoff.networks.layouts import place, training_layout
from tradeoff.networks.models import Blueprint, build_network

CPU = torch.device("cpu")


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[int]:
    """As many GPUs as the parameter says; what else `pick_device` sets is put back."""
    monkeypatch.setattr(device, "gpu_count", lambda: request.param)
    before = [backend.fp32_precision for backend in MATRIX_BACKENDS]
    yield request.param
    for backend, value in zip(MATRIX_BACKENDS, before, strict=True):
        backend.fp32_precision = value


@pytest.mark.parametrize(
    ("gpus", "asked", "expected"),
    [
        (0, "", "cpu"),
        (0, "cpu", "cpu"),
        (2, "", "cuda"),
        (2, "cpu", "cpu"),
        (2, "cuda", "cuda"),
        (2, "cuda:1", "cuda:1"),
    ],
    indirect=["gpus"],
)
def test_the_device_is_the_one_asked_for_else_the_first_gpu(
    gpus: int, asked: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADEOFF_DEVICE", asked)
    assert pick_device() == torch.device(expected)


@pytest.mark.parametrize(
    ("gpus", "asked"),
    [(2, "gpu"), (2, "1"), (2, "cuda:2"), (2, "cuda:x"), (2, "CPU"), (2, "meta"), (0, "cuda"),
     (0, "cuda:0")],
    indirect=["gpus"],
)  # fmt: skip
def test_a_device_that_is_not_there_is_refused_with_those_that_are(
    gpus: int, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADEOFF_DEVICE", asked)
    known = "cpu, cuda, cuda:0, cuda:1" if gpus else "cpu (torch finds no GPU"
    with pytest.raises(NoSuchDevice) as caught:
        pick_device()
    assert f"TRADEOFF_DEVICE is {asked!r}; allowed here: {known}" in str(caught.value)


@pytest.mark.parametrize(
    ("capability", "precision", "channels_last"),
    [
        ((7, 0), "bf16", False),
        ((7, 5), "tf32", False),
        ((8, 0), "float32", False),
        ((8, 0), "tf32", True),
        ((8, 6), "bf16", True),
        ((12, 0), "tf32", True),
    ],
)
def test_on_a_gpu_training_is_channels_last_on_tensor_cores_alone(
    capability: tuple[int, int],
    precision: str,
    channels_last: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    found = training_layout(torch.device("cuda"), precision)
    assert found == (torch.channels_last if channels_last else torch.contiguous_format)


def network(name: str, width: float, channels: int = 1) -> nn.Sequential:
    blueprint = Blueprint(name, "any", (channels, 8, 8), 10, width)
    return build_network(blueprint, [0.3] * channels, [0.4] * channels, 0)


def layouts(model: nn.Module) -> list[bool]:
    """Of each convolution whether its weight is channels-last and not contiguous."""
    weights = [module.weight for module in model.modules() if isinstance(module, nn.Conv2d)]
    return [not weight.is_contiguous() for weight in weights if weight.shape[2] > 1]


@pytest.mark.parametrize(("name", "channels"), [("resnet18", 1), ("resnet18", 3), ("vgg16", 3)])
def test_whole_vectors_are_channels_last_but_for_the_first_layer(name: str, channels: int) -> None:
    first, *others = layouts(place(network(name, 0.25, channels), CPU))
    assert not first
    assert all(others)


def test_a_twins_first_layer_gives_channels_last_features_of_grey_images() -> None:
    """Without a copy: images of one channel have both layouts."""
    twin = fold(network("resnet18", 0.25))
    first = next(module for module in twin.modules() if isinstance(module, GreyConvolution))
    first._forward_hooks.clear()
    features = first(torch.rand(2, 1, 8, 8))
    assert features.is_contiguous(memory_format=torch.channels_last)
    assert not features.is_contiguous()


@pytest.mark.parametrize("width", [0.0625, 0.125, 0.1875])
def test_other_widths_stay_as_they_are_on_a_cpu(width: float) -> None:
    """There torch's channels-last convolutions corrupt memory."""
    model = place(network("vgg16", width), CPU)
    assert not any(layouts(model))
    assert not any(module._forward_hooks for module in model.modules())


def test_grouped_convolutions_and_no_convolutions_stay_as_they_are() -> None:
    grouped = nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3, groups=8))
    assert not any(layouts(place(grouped, CPU)))
    assert isinstance(place(nn.Linear(2, 2), CPU), nn.Linear)


@pytest.mark.parametrize("training", [False, True])
def test_logits_and_gradients_are_the_same_up_to_rounding(training: bool) -> None:
    plain = network("resnet18", 0.25).train(training)
    images, labels = tiny.batch(8)
    labels = labels % 10
    results = []
    for model in (plain, place(copy.deepcopy(plain), CPU)):
        loss = nn.functional.cross_entropy(model(images), labels)
        results.append((loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))))
    for found, expected in zip(results[1], results[0], strict=True):
        assert (found - expected).abs().max() <= 1e-4 * expected.abs().max() + 1e-7


def test_placing_twice_is_placing_once() -> None:
    model = place(place(network("resnet18", 0.25), CPU), CPU)
    first, *_, last = (len(module._forward_hooks) for module in model.modules()
                       if isinstance(module, nn.Conv2d))  # fmt: skip
    assert (first, last) == (1, 1)


def test_arithmetic_that_cannot_be_portable_any_more_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device.platform, "machine", lambda: "x86_64")
    monkeypatch.delenv("MKL_CBWR", raising=False)
    with pytest.raises(TooLate, match=r"MKL_CBWR='COMPATIBLE'.* to native"):
        pick_device(arithmetic="portable")


def test_elsewhere_arithmetic_stays_native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device.platform, "machine", lambda: "aarch64")
    pick_device(arithmetic="portable")
    assert not device.arithmetic_is_portable()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's allocator")
def test_what_is_freed_is_not_mapped_anew() -> None:
    """Else each page of it is a fault again, of which a pass has as many as it has maps."""
    device.keep_freed_memory()

    def allocate(times: int) -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(times):
            torch.ones(2**24)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    allocate(8)  # until the heap has room for it
    assert allocate(8) * resource.getpagesize() < 2 * 4 * 2**24
