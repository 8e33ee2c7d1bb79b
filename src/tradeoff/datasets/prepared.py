"""The prepared file: fixed splits of a data set as uint8 tensors, with what a model must know."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tradeoff.core.files import atomic_write
from tradeoff.core.settings import LEAST_TRAINING_IMAGES
from tradeoff.datasets.published import DataMissing, PublishedData
from tradeoff.networks.randomness import generator

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Subset:
    """Images (N, C, H, W), uint8 or floats, where `white` means 1.0, and labels int64 (N,)."""

    pixels: Tensor
    labels: Tensor
    white: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def images(self) -> Tensor:
        """All images as float32 in [0, 1]; for large data sets take `floats` of a batch."""
        return self.floats(self.pixels)

    def floats(self, pixels: Tensor) -> Tensor:
        """Pixels of this data set as float32 in [0, 1]."""
        return pixels.float() / self.white

    def first(self, count: int | None) -> "Subset":
        """The first `count` images: class-balanced, because classes take turns in a split."""
        return Subset(self.pixels[:count], self.labels[:count], self.white)

    def to(self, device: torch.device) -> "Subset":
        return Subset(self.pixels.to(device), self.labels.to(device), self.white)


@dataclass(frozen=True)
class Prepared:
    """A data set ready for use; mean and std per channel are those of the training images."""

    name: str
    train: Subset
    validation: Subset
    test: Subset
    classes: tuple[str, ...]
    mean: list[float]
    std: list[float]

    @property
    def image(self) -> tuple[int, int, int]:
        """The shape of one, (C, H, W)."""
        channels, height, width = self.train.pixels.shape[1:]
        return channels, height, width


def class_balanced_order(labels: Tensor, seed_parts: tuple[object, ...]) -> Tensor:
    """A random order (N,) of indices in which classes take turns: any beginning is balanced."""
    shuffled = torch.randperm(len(labels), generator=generator(*seed_parts))
    rank = torch.empty_like(shuffled)
    for label in labels.unique():
        (places,) = torch.where(labels[shuffled] == label)
        rank[places] = torch.arange(len(places))
    return shuffled[torch.argsort(rank * (int(labels.max()) + 1) + labels[shuffled])]


def split(
    name: str, source: PublishedData, validation: int, test: int | None, limit: int | None
) -> Prepared:
    """Fixed, class-balanced splits: validation and test first, the rest is for training.

    Args:
        test: how many images to hold out; None where a test split is published.
        limit: keep only so many images for training and validation, and at most so many tests.

    Raises:
        DataMissing: more images are asked for than there are, less than two are left to train, or
            a class has too few for each of the splits.
    """
    if (test is None) != (source.test_images is not None):
        published = "has a" if test is not None else "has no"
        raise DataMissing(
            f"params.yaml: datasets.{name}.split.test is {test}; {name} {published} published "
            f"test split, so it must be {'null' if test is not None else 'a number of images'}"
        )
    order = class_balanced_order(source.labels, ("split", name))
    held_out, order = order[: test or 0], order[test or 0 :][:limit]
    if len(order) < validation + LEAST_TRAINING_IMAGES:
        raise DataMissing(
            f"params.yaml: datasets.{name}.split: {validation} images for validation leave "
            f"{max(0, len(order) - validation)} of {len(order)} for training; "
            f"{LEAST_TRAINING_IMAGES} are needed"
        )
    chosen, rest = order[:validation], order[validation:]
    if source.test_images is None or source.test_labels is None:
        tests = Subset(source.images[held_out], source.labels[held_out], source.white)
    else:
        order = class_balanced_order(source.test_labels, ("split", name, "test"))
        tests = Subset(source.test_images[order], source.test_labels[order], source.white)
    pixels = source.images[rest].float() / source.white
    prepared = Prepared(
        name,
        Subset(source.images[rest], source.labels[rest], source.white),
        Subset(source.images[chosen], source.labels[chosen], source.white),
        tests.first(limit),
        source.classes,
        [round(x, 6) for x in pixels.mean((0, 2, 3)).tolist()],
        [round(x, 6) or 1.0 for x in pixels.std((0, 2, 3)).tolist()],
    )
    _check_classes(prepared)
    return prepared


def _check_classes(prepared: Prepared) -> None:
    """Refuse a split with room for every class that lacks one: it had too few images."""
    count = len(prepared.classes)
    subsets = {part: getattr(prepared, part).labels for part in SPLITS}
    for labels in subsets.values():
        for label in range(count if len(labels) >= count else 0):
            if not bool((labels == label).any()):
                has = ", ".join(f"{int((subsets[p] == label).sum())} in {p}" for p in SPLITS)
                raise DataMissing(
                    f"params.yaml: datasets.{prepared.name}.split: the class "
                    f"{prepared.classes[label]} has too few images: {has}. Give it more, or ask "
                    "for fewer in validation and test"
                )


def save_prepared(prepared: Prepared, path: Path) -> None:
    """Write the file, whole or not at all."""
    tensors = {}
    for part in SPLITS:
        subset: Subset = getattr(prepared, part)
        tensors[f"{part}.pixels"] = subset.pixels.contiguous()
        tensors[f"{part}.labels"] = subset.labels.contiguous()
    about = {
        "name": prepared.name,
        "classes": prepared.classes,
        "mean": prepared.mean,
        "std": prepared.std,
        "white": prepared.train.white,
    }
    with atomic_write(path) as partial:
        # One metadata entry: safetensors writes several in random order.
        save_file(tensors, partial, metadata={"about": json.dumps(about)})


def load_prepared(path: Path, name: str) -> Prepared:
    """Read what `save_prepared` wrote.

    Raises:
        DataMissing: the file is not there, is not a prepared file, or holds another data set.
    """
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})["about"])
            train, validation, test = (
                Subset(
                    file.get_tensor(f"{part}.pixels"),
                    file.get_tensor(f"{part}.labels"),
                    about["white"],
                )
                for part in SPLITS
            )
            owner, classes = about["name"], tuple(about["classes"])
            mean, std = about["mean"], about["std"]
    except FileNotFoundError:
        raise DataMissing(f"{path}: not there; make it with: dvc repro prepare@{name}") from None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataMissing(
            f"{path}: damaged or not a prepared file ({error}); delete it and run: "
            f"dvc repro prepare@{name}"
        ) from None
    if owner != name:
        raise DataMissing(f"{path}: holds {owner}, not {name}; delete it and prepare again")
    return Prepared(name, train, validation, test, classes, mean, std)
