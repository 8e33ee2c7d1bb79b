"""What many tests need in small: made-up images, a tiny network, settings, a defense's step."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from tradeoff.core.settings import TrainSettings
from tradeoff.datasets.prepared import Prepared, Subset
from tradeoff.networks.ascent import InnerAttack
from tradeoff.networks.randomness import generator
from tradeoff.networks.threat import Threat
from tradeoff.training.contract import Step

CLASSES = 4
THREAT = Threat("linf", 0.1)

_SETTINGS: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 16,
    "optimizer": "adam",
    "learning_rate": 0.01,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "schedule": "onecycle",
    "milestones": [0.5, 0.75],
    "decay": 0.1,
    "warmup": 0.25,
    "augment": None,
    "clip_gradient": None,
    "ema_decay": None,
    "swa": None,
    "weight_perturbation": None,
    "label_smoothing": 0.0,
    "precision": "float32",
    "compile": "off",
    "micro_batch": None,
    "attack": {"steps": 2, "relative_step_size": 0.5},
    "selection": {"steps": 2, "relative_step_size": 0.5},
}


def settings(**changes: Any) -> TrainSettings:
    """Short training, with some values changed."""
    return TrainSettings.model_validate(_SETTINGS | changes)


def made_up(train: int = 64, validation: int = 32, test: int = 32, seed: int = 0) -> Prepared:
    """Grey images (N, 1, 8, 8) of four classes, each a fixed pattern under noise."""
    draws = generator("made up", seed)
    patterns = torch.rand(CLASSES, 1, 8, 8, generator=draws)

    def subset(count: int) -> Subset:
        labels = torch.arange(count) % CLASSES
        noise = torch.rand(count, 1, 8, 8, generator=draws)
        pixels = (255 * (0.3 * patterns[labels] + 0.7 * noise)).to(torch.uint8)
        return Subset(pixels, labels, white=255)

    names = tuple(f"class {label}" for label in range(CLASSES))
    parts = [subset(count) for count in (train, validation, test)]
    return Prepared("made_up", *parts, classes=names, mean=[0.5], std=[0.25])


def network(seed: int = 0, classes: int = CLASSES) -> nn.Module:
    """A convolution, BatchNorm and a linear layer, in train mode, for images (N, 1, 8, 8)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64, classes),
        )


def batch(count: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images (count, 1, 8, 8) in [0, 1] and their labels."""
    subset = made_up(train=count, seed=seed).train
    return subset.images, subset.labels


def calm(model: nn.Module) -> nn.Module:
    """A copy of `model` in eval mode, without parameter gradients."""
    return copy.deepcopy(model).eval().requires_grad_(False)


def step(
    model: nn.Module, threat: Threat = THREAT, steps: int = 3, epoch: int = 0, epochs: int = 4
) -> Step:
    """What the loop hands to a defense; always with the same random numbers."""
    inner = InnerAttack(threat, steps, threat.epsilon / 2)
    progress = epoch / epochs
    bases = {"teacher": calm(network(seed=1))}
    return Step(calm(model), inner, generator("step"), epoch, epochs, progress, model, bases)
