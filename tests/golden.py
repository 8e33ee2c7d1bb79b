"""Golden values: what the published code of each defense computes on one network and batch.

An ascent takes signs of gradients. That of a divergence starts where the gradient is nearly 0, and
in float32 a processor's rounding decides some of them: whole attacks are compared in float64.
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
    with np.load(Path(__file__).parent / "data" / "golden.npz") as file:
        return dict(file)


def tensor(key: str) -> Tensor:
    return torch.from_numpy(_file()[key].copy())


def number(key: str) -> float:
    return float(_file()[key])


def images() -> Tensor:
    return tensor("x")


def labels() -> Tensor:
    return tensor("y")


def network() -> nn.Module:
    """The network, in train mode."""
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
    prefix = "state/"
    model.load_state_dict({k.removeprefix(prefix): tensor(k) for k in _file() if prefix in k})
    return model


def inner_attack() -> InnerAttack:
    return InnerAttack(Threat("linf", number("eps")), int(number("steps")), number("step"))


@dataclass(frozen=True)
class GoldenStep(Step):
    """A step whose start points are the golden ones."""

    def gaussian_start(self, images: Tensor) -> Tensor:
        return images + 0.001 * tensor("noise").to(images.dtype)

    def random_start(self, images: Tensor) -> Tensor:
        noise = tensor("uniform").to(images.dtype)
        return random_start(images, noise, torch.zeros(len(images)), self.inner.threat)


def step(frozen: nn.Module) -> Step:
    return GoldenStep(frozen, inner_attack(), torch.Generator(), epoch=0, epochs=1)


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
