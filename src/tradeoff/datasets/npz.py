"""One's own data as arrays, written with numpy.savez: data/own/NAME.npz.

images  (N, H, W), (N, H, W, C), or (N, F) for F features: uint8, or floats in [0, 1]
labels  (N,)  whole numbers from 0, or names
test_images, test_labels    the same for a test split of one's own; without them one is held out
classes (C,)  names, where labels are numbers; without it they are called 0, 1, ...
"""

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tradeoff.core.schema import Section
from tradeoff.datasets.own import refuse, repeated
from tradeoff.datasets.published import DataMissing, PublishedData

Array = NDArray[Any]

NEEDED, OPTIONAL = {"images", "labels"}, {"test_images", "test_labels", "classes"}


class Knobs(Section):
    """Arrays say all of it."""


def read(folder: Path, knobs: Knobs) -> PublishedData:
    """The arrays of the file that is called as the folder would be, with .npz.

    Raises:
        DataMissing: names the array that is missing or of another kind, or images that are there
            twice.
    """
    file = folder.with_suffix(".npz")
    arrays = _arrays(file)
    tested = "test_images" in arrays
    parts = ["", "test_"] if tested else [""]
    images = [_images(arrays[f"{part}images"], f"{file}: {part}images") for part in parts]
    if tested and (images[0].shape[1:], images[0].dtype) != (images[1].shape[1:], images[1].dtype):
        raise DataMissing(
            f"{file}: images are {images[0].dtype} {tuple(images[0].shape[1:])}, test_images "
            f"{images[1].dtype} {tuple(images[1].shape[1:])}; they should be alike"
        )
    given = [arrays[f"{part}labels"] for part in parts]
    for part, pixels, labels in zip(parts, images, given, strict=True):
        if labels.shape != (len(pixels),):
            raise DataMissing(
                f"{file}: {part}labels has shape {labels.shape}; {len(pixels)} images need "
                f"({len(pixels)},)"
            )
    classes, numbers = _labels(given, arrays.get("classes"), file)
    names = [f"{part}images[{row}]" for part, pixels in zip(parts, images, strict=True)
             for row in range(len(pixels))]  # fmt: skip
    refuse(file, repeated(torch.cat(images), names))
    white = 255 if images[0].dtype == torch.uint8 else 1
    test_images, test_labels = (images[1], numbers[1]) if tested else (None, None)
    return PublishedData(images[0], numbers[0], test_images, test_labels, white, classes)


def _arrays(file: Path) -> dict[str, Array]:
    try:
        with np.load(file, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    except FileNotFoundError:
        raise DataMissing(f"{file}: not there") from None
    except (OSError, ValueError, BadZipFile) as error:
        raise DataMissing(f"{file}: cannot be read as arrays of numpy.savez: {error}") from None
    wrong = NEEDED - set(arrays) or set(arrays) - NEEDED - OPTIONAL
    if wrong or ("test_images" in arrays) != ("test_labels" in arrays):
        raise DataMissing(
            f"{file}: holds {', '.join(sorted(arrays)) or 'nothing'}; it should hold images and "
            "labels, and may hold test_images with test_labels, and classes"
        )
    return arrays


def _images(array: Array, where: str) -> Tensor:
    """uint8 or float32 (N, C, H, W)."""
    floats = array.dtype.kind == "f"
    if not floats and array.dtype != np.uint8:
        raise DataMissing(f"{where}: is {array.dtype}; it should be uint8, or floats in [0, 1]")
    if floats and not bool(((array >= 0) & (array <= 1)).all()):
        raise DataMissing(f"{where}: has values outside of [0, 1], in which floats should be")
    pixels = torch.from_numpy(array.astype(np.float32) if floats else array)
    match array.shape:
        case (_, _):
            return pixels[:, None, None]
        case (_, _, _):
            return pixels[:, None]
        case (_, _, _, _):
            return pixels.permute(0, 3, 1, 2).contiguous()
    raise DataMissing(f"{where}: has shape {array.shape}; it should be (N, H, W) or (N, H, W, C)")


def _labels(
    given: list[Array], classes: Array | None, file: Path
) -> tuple[tuple[str, ...], list[Tensor]]:
    """The names of the classes, and labels (N,) int64."""
    every = np.concatenate(given)
    if every.dtype.kind == "U":
        found, numbers = np.unique(every, return_inverse=True)
        names = tuple(map(str, found))
    elif every.dtype.kind in "iu":
        numbers = every
        count = int(every.max()) + 1
        names = tuple(map(str, range(count) if classes is None else classes))
        if int(every.min()) < 0 or count > len(names):
            raise DataMissing(
                f"{file}: labels are from {every.min()} to {every.max()}; of {len(names)} classes "
                f"they should be from 0 to {len(names) - 1}"
            )
    else:
        raise DataMissing(f"{file}: labels are {every.dtype}; they should be numbers or names")
    if len(names) < 2:
        raise DataMissing(f"{file}: labels name {len(names)} classes; two or more are needed")
    whole = torch.from_numpy(numbers.astype(np.int64))
    return names, list(whole.split([len(labels) for labels in given]))
