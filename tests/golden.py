"""Golden values: what the published code of each defense computes on one network and batch.

An ascent takes signs of gradients. That of a divergence starts where the gradient is nearly 0, and
in float32 a processor's rounding decides some of them: whole attacks are compared in float64.

What begins with `digits/` has a batch and networks of its own: digits, and networks trained on
others. Functions that read the batch take this prefix as `inputs`.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tradeoff.networks.ascent import InnerAttack
from tradeoff.networks.threat import Threat, random_start
from tradeoff.training.contract import Step


@cache
def _file() -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for path in sorted((Path(__file__).parent / "data").glob("golden_*.npz")):
        with np.load(path) as file:
            arrays |= dict(file)
    return arrays


def tensor(key: str) -> Tensor:
    return torch.from_numpy(_file()[key].copy())


def number(key: str) -> float:
    return float(_file()[key])


def under(prefix: str) -> dict[str, Tensor]:
    """All tensors whose keys begin with `prefix`, by the rest of their keys."""
    return {key.removeprefix(prefix): tensor(key) for key in _file() if key.startswith(prefix)}


def images(inputs: str = "") -> Tensor:
    return tensor(f"{inputs}x")


def labels(inputs: str = "") -> Tensor:
    return tensor(f"{inputs}y")


def network(name: str = "state") -> nn.Module:
    """One of the networks of the golden files, in train mode."""
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )
    model.load_state_dict(under(f"{name}/"))
    return model


def inner_attack(inputs: str = "") -> InnerAttack:
    threat = Threat("linf", number(f"{inputs}eps"))
    return InnerAttack(threat, int(number(f"{inputs}steps")), number(f"{inputs}step"))


@dataclass(frozen=True)
class GoldenStep(Step):
    """A step whose start points are the golden ones."""

    inputs: str = ""

    def gaussian_noise(self, images: Tensor) -> Tensor:
        return tensor(f"{self.inputs}noise").to(images.dtype)

    def random_start(self, images: Tensor) -> Tensor:
        noise = tensor(f"{self.inputs}uniform").to(images.dtype)
        return random_start(images, noise, torch.zeros(len(images)), self.inner.threat)


def step(frozen: nn.Module, inputs: str = "", **bases: nn.Module) -> Step:
    inner = inner_attack(inputs)
    return GoldenStep(frozen, inner, torch.Generator(), 0, 1, 0.0, frozen, bases, inputs=inputs)


def assert_images_close(actual: Tensor, name: str) -> None:
    """Equal in every pixel, up to the rounding of what is kept in float32."""
    torch.testing.assert_close(actual.double(), tensor(name).double(), atol=1e-6, rtol=0)


def assert_close(actual: Tensor, expected: Tensor, relative: float = 1e-5) -> None:
    """Equal up to `relative` of the norm of what is expected."""
    assert actual.shape == expected.shape
    error = torch.linalg.vector_norm(actual.double() - expected.double())
    assert error <= relative * torch.linalg.vector_norm(expected.double())


def assert_loss_and_gradients(name: str, model: nn.Module, loss: Tensor) -> None:
    """The loss of a defense and its gradient by every parameter, within 1e-5."""
    assert_close(loss.detach(), tensor(f"{name}/loss"))
    model.zero_grad()
    loss.backward()
    for parameter, value in model.named_parameters():
        assert value.grad is not None
        assert_close(value.grad, tensor(f"{name}/grad/{parameter}"))
