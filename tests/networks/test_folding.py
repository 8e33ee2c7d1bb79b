"""The folded twin computes what the model does in eval mode, and leaves the model alone."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import golden, tiny
from tradeoff.core.plugins import module_names
from tradeoff.networks.folding import EvalTwin, fold, fold_if_same
from tradeoff.networks.models import Blueprint, build_network


def trained_model(name: str) -> nn.Sequential:
    """In train mode, with weights and statistics that are not those of the initialisation.

    In float64, where no rounding decides on which side of 0 a ReLU's input is.
    """
    model = build_network(Blueprint(name, "any", (1, 16, 16), 10, 0.125), [0.3], [0.4], 0).double()
    disturb(model, seed=1)
    return model


@torch.no_grad()
def disturb(model: nn.Module, seed: int) -> None:
    """Other scales, shifts, means and variances."""
    draws = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.weight.uniform_(0.5, 2, generator=draws)
            module.bias.uniform_(-0.5, 0.5, generator=draws)
            module.running_mean.uniform_(-0.5, 0.5, generator=draws)
            module.running_var.uniform_(0.2, 3, generator=draws)
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            module.bias.uniform_(-0.5, 0.5, generator=draws)


def images(count: int = 8) -> Tensor:
    draws = torch.Generator().manual_seed(0)
    return torch.rand(count, 1, 16, 16, generator=draws, dtype=torch.float64)


def assert_same(twin: nn.Module, model: nn.Module, inputs: Tensor) -> None:
    """Logits and gradients by the inputs, up to rounding."""
    tolerance = 1e-5 if inputs.dtype == torch.float32 else 1e-9
    results = []
    for network in (twin, tiny.calm(model)):
        points = inputs.clone().requires_grad_()
        logits = network(points)
        results.append((logits.detach(), torch.autograd.grad(logits.logsumexp(1).sum(), points)[0]))
    for mine, theirs in zip(*results, strict=True):
        assert (mine - theirs).abs().max() <= tolerance * theirs.abs().max()


@pytest.mark.parametrize("name", module_names("archs", "build"))
def test_the_twin_equals_the_model_in_eval_mode(name: str) -> None:
    model = trained_model(name)
    assert_same(fold(model), model, images())


@pytest.mark.parametrize("name", ["resnet18", "vgg16"])
def test_every_batch_norm_is_folded(name: str) -> None:
    twin = fold(trained_model(name))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in twin.modules())


def test_other_networks_in_a_sequence_fold_too() -> None:
    assert_same(fold(golden.network()), golden.network(), golden.images())


@pytest.mark.parametrize("name", ["resnet18", "vgg16"])
def test_refresh_takes_over_weights_and_statistics(name: str) -> None:
    model = trained_model(name)
    twin = EvalTwin(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    F.cross_entropy(model(images()), torch.arange(8)).backward()
    optimizer.step()  # the forward pass has changed the statistics as well
    disturb(model, seed=2)
    with pytest.raises(AssertionError):
        assert_same(twin.module, model, images())
    twin.refresh()
    assert_same(twin.module, model, images())


def test_refresh_follows_a_state_that_is_loaded() -> None:
    model, other = trained_model("resnet18"), trained_model("resnet18")
    disturb(other, seed=5)
    twin = EvalTwin(model)
    model.load_state_dict(other.state_dict())
    twin.refresh()
    assert_same(twin.module, other, images())


def test_the_twin_has_no_parameter_gradients_and_shares_no_memory() -> None:
    model = trained_model("resnet18")
    twin = fold(model)
    assert not any(parameter.requires_grad for parameter in twin.parameters())
    assert not any(module.training for module in twin.modules())
    mine = {tensor.data_ptr() for tensor in twin.state_dict().values()}
    theirs = {tensor.data_ptr() for tensor in model.state_dict().values()}
    assert not mine & theirs


def test_the_model_itself_is_unchanged() -> None:
    model = trained_model("vgg16")
    before = copy.deepcopy(model.state_dict())
    modules = [type(module) for module in model.modules()]
    twin = EvalTwin(model)
    twin.module(images())
    twin.refresh()
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert [type(module) for module in model.modules()] == modules
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


class Crossed(nn.Module):
    """Children that are applied in another order than that of their definition."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 1, 3, padding=1)
        self.norm = nn.BatchNorm2d(1)
        self.last = nn.Linear(64, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(self.convolution(self.norm(inputs)).flatten(1))


class ReadTwice(nn.Module):
    """What the ReLU could write over is read by another layer too, before or after it."""

    def __init__(self, after: bool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 1, 3, padding=1)
        self.rectifier = nn.ReLU()
        self.last = nn.Linear(64, 3)
        self.after = after

    def forward(self, inputs: Tensor) -> Tensor:
        features = self.convolution(inputs)
        square = None if self.after else features * features
        rectified = self.rectifier(features)
        square = features * features if square is None else square
        return self.last((rectified + square).flatten(1))


@pytest.mark.parametrize("after", [False, True])
def test_a_relu_whose_input_is_read_elsewhere_does_not_write_over_it(after: bool) -> None:
    """Read before, it breaks the gradients alone; read after, the logits."""
    torch.manual_seed(0)
    model = ReadTwice(after).eval()
    inputs, _ = tiny.batch(4)
    assert fold_if_same(model, inputs) is model


def test_only_the_twins_relus_write_over_their_inputs() -> None:
    model = golden.network()
    model.train(False)
    twin = fold(model)
    assert all(layer.inplace for layer in twin.modules() if isinstance(layer, nn.ReLU))
    assert not any(layer.inplace for layer in model.modules() if isinstance(layer, nn.ReLU))


@pytest.mark.parametrize("given", [{"affine": False}, {"track_running_stats": False}])
def test_a_batch_norm_without_weights_or_statistics_stays(given: dict[str, bool]) -> None:
    torch.manual_seed(0)
    head = [nn.Flatten(), nn.Linear(64, 3)]
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(),
        nn.Conv2d(2, 1, 3, padding=1), nn.BatchNorm2d(1, **given), *head,
    )  # fmt: skip
    inputs, _ = tiny.batch(4)
    model(inputs)
    twin = fold_if_same(model.eval(), inputs)
    assert [type(layer) for layer in twin[1:5:3]] == [nn.Identity, nn.BatchNorm2d]
    assert_same(twin, model, inputs)


class NotCopied(nn.Sequential):
    def __deepcopy__(self, memo: object) -> nn.Module:
        raise TypeError("this model holds a lock")


def test_a_model_that_refuses_to_be_copied_is_used_as_it_is() -> None:
    model = NotCopied(nn.Flatten(), nn.Linear(64, 3)).eval()
    inputs, _ = tiny.batch(4)
    assert fold_if_same(model, inputs) is model


def test_a_model_that_cannot_be_folded_is_used_as_it_is() -> None:
    crossed = Crossed()
    disturb(crossed, seed=1)
    crossed.eval()
    inputs, _ = tiny.batch(4)
    assert fold_if_same(crossed, inputs) is crossed
    model = trained_model("resnet18").eval()
    twin = fold_if_same(model, images())
    assert twin is not model
    assert_same(twin, model, images())


class Viewing(nn.Module):
    """Flattened as users do it: `view` takes no maps whose channels are innermost."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3))
        self.last = nn.Linear(256, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        maps = self.features(inputs)
        logits: Tensor = self.last(maps.view(len(maps), -1))
        return logits


def test_a_model_that_flattens_by_a_view_has_a_twin() -> None:
    torch.manual_seed(0)
    model = Viewing().eval()
    inputs, _ = tiny.batch(4)
    twin = fold_if_same(model, inputs)
    assert twin is not model
    assert_same(twin, model, inputs)
