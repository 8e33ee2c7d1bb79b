"""What it takes to ask a classifier: passes of networks, images to calibrate by, thresholds."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tradeoff.networks.preprocess import Preprocess

FALSE_ALARMS = 0.05  # the share of legitimate images that a detector may reject


@torch.no_grad()
def rejection_scores(model: Any, images: Tensor, batch_size: int) -> Tensor:
    """The rejection scores (N,) of images; NaN if the model does not reject."""
    if not hasattr(model, "rejection_score"):
        return torch.full_like(images[:, 0, 0, 0], torch.nan)
    return torch.cat([model.rejection_score(batch) for batch in images.split(batch_size)])


def rejection_threshold(scores: Tensor, false_alarms: float = FALSE_ALARMS) -> float:
    """The score above which at most this share of legitimate scores (N,) lies."""
    ranked = scores.sort().values
    return float(ranked[math.ceil(len(ranked) * (1 - false_alarms)) - 1])


@torch.no_grad()
def forward_passes(model: Any, image: Tensor) -> int:
    """How often one image (1, C, H, W) goes through networks before it is judged.

    A score that a classifier rejects by is reckoned to need its own passes through the network,
    those for the prediction included.
    """
    counted: list[int] = []

    def count(_layer: nn.Module, inputs: tuple[Tensor, ...], _features: Tensor) -> None:
        counted.append(len(inputs[0]))

    first_layers = [layer for layer in model.modules() if isinstance(layer, Preprocess)]
    hooks = [layer.register_forward_hook(count) for layer in first_layers]
    getattr(model, "rejection_score", model)(image)
    for hook in hooks:
        hook.remove()
    return sum(counted)


def asking(models: Mapping[str, nn.Module], validation: Tensor, batch_size: int) -> dict[str, Any]:
    """What ledgers keep of this: nothing of a plain network, else forward_passes,
    calibration_images and, by version, rejection_thresholds.

    Args:
        validation: images (N, C, H, W) held out of training and of the test.
    """
    first = next(iter(models.values()))
    rejects = hasattr(first, "rejection_score")
    calibrated = rejects or hasattr(first, "calibrate")
    passes = forward_passes(first, validation[:1])
    if passes <= 1 and not calibrated and not hasattr(first, "undefended"):
        return {}
    thresholds = {
        version: rejection_threshold(rejection_scores(model, validation, batch_size))
        for version, model in models.items()
        if rejects
    }
    return {
        "forward_passes": passes,
        "calibration_images": len(validation) if calibrated else 0,
        "rejection_thresholds": thresholds,
    }
