"""Adversarial examples to look at: the same images attacked on each defense, on one sheet.

The sheet is a picture of 8-bit tiles, a column for each image. Its first row shows the images as
they are. Two rows for each model follow: the perturbations, grey where there is none, black and
white at - and + the largest component of any model's (`amplification`); and the adversarial images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from tradeoff.attacks.pgd import Knobs, pgd
from tradeoff.attacks.suites.ledger import Array
from tradeoff.core.files import atomic_write
from tradeoff.core.tables import TABLES
from tradeoff.networks.threat import Threat


@dataclass(frozen=True)
class Examples:
    """One model's adversarial examples and its predictions.

    Attributes:
        adversarial: (N, C, H, W) in [0, 1], inside the threat.
        clean: the probabilities that it gives to the images, (N, classes).
        attacked: the probabilities that it gives to the adversarial images, (N, classes).
    """

    adversarial: Tensor
    clean: Tensor
    attacked: Tensor

    def first(self, few: slice) -> "Examples":
        """The same examples, of a slice of the images."""
        return Examples(self.adversarial[few], self.clean[few], self.attacked[few])


def attack_model(
    model: nn.Module, images: Tensor, labels: Tensor, knobs: Knobs, threat: Threat, keys: Tensor
) -> Examples:
    """Attack a model by PGD; its probabilities before and after."""
    adversarial = pgd(model, images, labels, knobs, threat, keys)
    with torch.no_grad():
        clean, attacked = (model(batch).softmax(1) for batch in (images, adversarial.images))
    return Examples(adversarial.images, clean, attacked)


def amplification(images: Tensor, models: list[Examples]) -> float:
    """The factor by which the largest component of any perturbation fills the range of a tile."""
    largest = max(float((model.adversarial - images).abs().max()) for model in models)
    return 0.5 / largest if largest > 0 else 1.0


def sheet(images: Tensor, models: list[Examples], factor: float) -> Array:
    """All tiles, (H rows, W columns, C) uint8; see the module."""
    rows = [images]
    for model in models:
        rows += [0.5 + factor * (model.adversarial - images), model.adversarial]
    return joined(rows)


def joined(rows: Sequence[Tensor]) -> Array:
    """Rows of tiles (N, C, H, W) in [0, 1] as one picture, (H rows, W columns, C) uint8.

    Channels that no picture has, such as those of a satellite, are shown as their mean.
    """
    tiles = torch.stack([row.float() for row in rows]).cpu()  # (rows, N, C, H, W)
    if tiles.shape[2] not in (1, 3):
        tiles = tiles.mean(2, keepdim=True)
    pixels = (255 * tiles.clamp(0, 1)).round().to(torch.uint8)
    count, images_across, channels, height, width = pixels.shape
    whole = pixels.permute(0, 3, 1, 4, 2).reshape(count * height, images_across * width, channels)
    return whole.numpy()


def save_sheet(pixels: Array, path: Path) -> None:
    """Write a sheet as PNG, grey if it has one channel."""
    file = BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    with atomic_write(path) as partial:
        partial.write_bytes(file.getvalue())


def example_table(
    labels: Tensor, models: dict[tuple[str, str], Examples], factor: float
) -> pd.DataFrame:
    """One row per model and image.

    Column `row` tells in which row of the sheet the model's perturbations are.
    """
    rows: list[dict[str, Any]] = []
    for place, ((architecture, defense), model) in enumerate(models.items()):
        clean, attacked = model.clean.max(1), model.attacked.max(1)
        for image, label in enumerate(labels.tolist()):
            rows.append(
                {
                    "architecture": architecture,
                    "defense": defense,
                    "row": 1 + 2 * place,
                    "image": image,
                    "label": label,
                    "clean_prediction": int(clean.indices[image]),
                    "clean_confidence": float(clean.values[image]),
                    "prediction": int(attacked.indices[image]),
                    "confidence": float(attacked.values[image]),
                    "amplification": factor,
                }
            )
    return pd.DataFrame(rows, columns=TABLES["examples"].names)


def size_table(counts: dict[tuple[str, str], int]) -> pd.DataFrame:
    """The sizes of a data set and its networks, by (kind, name) such as ("images", "train")."""
    rows = [{"kind": kind, "name": name, "count": count} for (kind, name), count in counts.items()]
    return pd.DataFrame(rows, columns=TABLES["sizes"].names)


def parameter_count(model: nn.Module) -> int:
    """How many parameters training learns."""
    return sum(parameter.numel() for parameter in model.parameters())
