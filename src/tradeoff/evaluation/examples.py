"""Adversarial examples to look at: the same images attacked on each defense, on one sheet.

The sheet is a picture of 8-bit tiles, a column for each image. Its first row are the images as
they are. Below come two rows for each model: the perturbation, of which grey is none and black
and white are - and + the largest component of any model's (`amplification`), and the adversarial
images.
"""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from tradeoff.attacks.pgd import pgd
from tradeoff.attacks.suites.ledger import Array
from tradeoff.core.files import atomic_write
from tradeoff.core.tables import TABLES
from tradeoff.networks.threat import Threat


@dataclass(frozen=True)
class Shown:
    """What one model makes of the images.

    Attributes:
        adversarial: (N, C, H, W) in [0, 1], inside the threat.
        clean: its probabilities of the images, (N, classes).
        attacked: those of the adversarial images.
    """

    adversarial: Tensor
    clean: Tensor
    attacked: Tensor


def attack_model(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    *,
    keys: Tensor,
    steps: int,
    relative_step_size: float,
) -> Shown:
    """PGD on the cross-entropy, and what the model says before and after it."""
    attempt = pgd(
        model, images, labels, threat, keys=keys, steps=steps, relative_step_size=relative_step_size
    )
    with torch.no_grad():
        clean, attacked = (model(batch).softmax(1) for batch in (images, attempt.images))
    return Shown(attempt.images, clean, attacked)


def amplification(images: Tensor, shown: list[Shown]) -> float:
    """The factor by which the largest component of any perturbation fills the range of a tile."""
    largest = max(float((one.adversarial - images).abs().max()) for one in shown)
    return 0.5 / largest if largest > 0 else 1.0


def sheet(images: Tensor, shown: list[Shown], factor: float) -> Array:
    """All tiles, (H rows, W columns, C) uint8; see the module."""
    rows = [images]
    for one in shown:
        rows += [0.5 + factor * (one.adversarial - images), one.adversarial]
    tiles = torch.stack(rows).cpu()  # (rows, N, C, H, W)
    pixels = (255 * tiles.clamp(0, 1)).round().to(torch.uint8)
    count, images_across, channels, height, width = pixels.shape
    joined = pixels.permute(0, 3, 1, 4, 2).reshape(count * height, images_across * width, channels)
    return joined.numpy()


def save_sheet(pixels: Array, path: Path) -> None:
    """Write a sheet as PNG, grey if it has one channel."""
    file = BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    with atomic_write(path) as partial:
        partial.write_bytes(file.getvalue())


def example_table(
    labels: Tensor, shown: dict[tuple[str, str], Shown], factor: float
) -> pd.DataFrame:
    """One row per model and image; `row` is where on the sheet its perturbations
    are."""
    rows: list[dict[str, Any]] = []
    for place, ((architecture, defense), one) in enumerate(shown.items()):
        clean, attacked = one.clean.max(1), one.attacked.max(1)
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
    """What a data set and its networks measure: (kind, name) such as ("images", "train")."""
    rows = [{"kind": kind, "name": name, "count": count} for (kind, name), count in counts.items()]
    return pd.DataFrame(rows, columns=TABLES["sizes"].names)


def parameter_count(model: nn.Module) -> int:
    """How many numbers training learns."""
    return sum(parameter.numel() for parameter in model.parameters())
