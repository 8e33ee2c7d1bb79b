"""One's own images in folders, as torchvision's ImageFolder has them: data/own/NAME/CLASS/1.png.

With data/own/NAME/train/CLASS and data/own/NAME/test/CLASS the test split is one's own too.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from tradeoff.core.schema import PositiveInt, Section
from tradeoff.datasets.own import refuse, repeated
from tradeoff.datasets.published import DataMissing, PublishedData

MODES = {"rgb": "RGB", "grey": "L"}  # what PIL calls them


class Knobs(Section):
    """How images are read.

    Attributes:
        size: pixels of each side: images are scaled, and their middle is cut out; null: they are
            taken as they are, and must all have one size.
    """

    size: PositiveInt | None = None
    colour: Literal["rgb", "grey"] = "rgb"


def read(folder: Path, knobs: Knobs) -> PublishedData:
    """All images below `folder`; classes are its subfolders, in alphabetical order.

    Raises:
        DataMissing: names what is missing, unreadable, unequal in size, or there twice.
    """
    parts = [folder / "train", folder / "test"]
    if not all(part.is_dir() for part in parts):
        parts = [folder]
    classes, *others = (_classes(part) for part in parts)
    if others and others[0] != classes:
        raise DataMissing(
            f"{folder}: train has the classes {', '.join(classes)}; test has {', '.join(others[0])}"
        )
    files = [(path, label) for part in parts for path, label in _files(part, classes)]
    images, faults = [], []
    for path, _ in files:
        try:
            images.append(_image(path, knobs))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            faults.append(f"{path} cannot be read as an image: {error}")
    refuse(folder, faults)
    refuse(folder, _unequal(images, [path for path, _ in files]))
    refuse(folder, repeated(images, [str(path) for path, _ in files]))
    pixels, labels = torch.stack(images), torch.tensor([label for _, label in files])
    if not others:
        return PublishedData(pixels, labels, None, None, 255, tuple(classes))
    count = sum(path.is_relative_to(parts[0]) for path, _ in files)
    return PublishedData(
        pixels[:count], labels[:count], pixels[count:], labels[count:], 255, tuple(classes)
    )


def _classes(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.glob("[!.]*/"))
    if len(names) < 2:
        raise DataMissing(
            f"{folder}: has {len(names)} folders of images; two classes or more are needed, each "
            f"a folder such as {folder / 'CLASS'}"
        )
    return names


def _files(folder: Path, classes: list[str]) -> list[tuple[Path, int]]:
    """Every image of a folder, with its label."""
    found = []
    for label, name in enumerate(classes):
        paths = sorted((folder / name).rglob("*"))
        paths = [path for path in paths if path.suffix.lower() in IMG_EXTENSIONS]
        if not paths:
            raise DataMissing(f"{folder / name}: has no image ({', '.join(IMG_EXTENSIONS)})")
        found += [(path, label) for path in paths]
    return found


def _image(path: Path, knobs: Knobs) -> Tensor:
    """uint8 (C, H, W), turned as its camera says."""
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened).convert(MODES[knobs.colour])
    if knobs.size is not None:
        image = ImageOps.fit(image, (knobs.size, knobs.size), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.dim() == 2 else pixels.permute(2, 0, 1).contiguous()


def _unequal(images: list[Tensor], paths: list[Path]) -> list[str]:
    _, *wanted = images[0].shape
    return [
        f"{path} has {height}x{width} pixels (height, width), {paths[0]} {wanted[0]}x{wanted[1]}; "
        "`size: 32` in this data set's `source` would bring all to one size"
        for path, (_, height, width) in zip(paths, (image.shape for image in images), strict=True)
        if [height, width] != wanted
    ]
