"""A small adversarially trained network and its digits, made once per process in seconds."""

from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from tradeoff.networks.randomness import generator, sample_keys
from tradeoff.networks.threat import Threat, project

LINF = Threat("linf", 0.15)
L2 = Threat("l2", 0.8)


class Trained(NamedTuple):
    model: nn.Module
    images: Tensor
    labels: Tensor
    keys: Tensor

    def first(self, count: int) -> "Trained":
        return Trained(self.model, self.images[:count], self.labels[:count], self.keys[:count])


@cache
def digits() -> tuple[Tensor, Tensor]:
    """All of scikit-learn's digits, shuffled: images (1797, 1, 8, 8) in [0, 1] and labels."""
    bunch = load_digits()
    order = torch.randperm(len(bunch.target), generator=generator("digits"))
    images = torch.tensor(bunch.images, dtype=torch.float32)[order, None] / 16
    return images, torch.tensor(bunch.target, dtype=torch.long)[order]


@cache
def trained() -> Trained:
    """A convolutional network with BatchNorm, and 500 digits (500, 1, 8, 8) it did not see."""
    torch.set_num_threads(1)
    images, labels = digits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _network()
    _train(model, images[500:], labels[500:])
    return Trained(model, images[:500], labels[:500], sample_keys(torch.arange(500), "tests"))


def linear(classes: int, size: int = 4) -> nn.Module:
    """A linear classifier of images (N, 1, size, size) with random weights."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(size * size, classes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=generator("linear", classes))
    return model.requires_grad_(False)


def _network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


def _train(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Madry et al. 2018 with three steps, in the linf ball."""
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    shuffle = generator("shuffle")
    for _ in range(12):
        for batch in torch.randperm(len(images), generator=shuffle).split(128):
            inputs, targets = images[batch], labels[batch]
            model.eval()
            attacked = (inputs + torch.rand(inputs.shape, generator=shuffle) * 0.2 - 0.1).clamp(
                0, 1
            )
            for _ in range(3):
                attacked.requires_grad_()
                loss = F.cross_entropy(model(attacked), targets)
                direction = torch.autograd.grad(loss, attacked)[0].sign()
                attacked = project(attacked.detach() + 0.07 * direction, inputs, LINF)
            model.train()
            optimizer.zero_grad()
            F.cross_entropy(model(attacked), targets).backward()
            optimizer.step()
    optimizer.zero_grad()
    model.eval().requires_grad_(False)
