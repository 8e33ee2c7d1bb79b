"""Tiny ImageNet (Le & Yang 2015): 100 000 images of 64x64 pixels in 200 classes; its validation
set, whose labels are known, is the test split."""

from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tradeoff.datasets.download import fetch
from tradeoff.datasets.local import find
from tradeoff.datasets.published import PublishedData

FILES = [("tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de")]
MIRRORS = ["http://cs231n.stanford.edu/"]
ROOT = "tiny-imagenet-200"
SIZE = {"images": 100_000, "test": 10_000, "image": (3, 64, 64), "classes": 200}


def read(download: Path) -> PublishedData:
    """From the archive in a local folder, else from Stanford; it is read as it is, not unpacked.

    Raises:
        DataMissing: the archive is damaged, or neither there nor reachable.
    """
    folder = find(FILES, download) or fetch(FILES, MIRRORS, download)
    with ZipFile(folder / FILES[0][0]) as archive:
        synsets = _table(archive, "wnids.txt")
        label_of = {synset: label for label, (synset, *_) in enumerate(synsets)}
        words = {synset: text.split(",")[0] for synset, text in _table(archive, "words.txt")}
        train = {
            name: label_of[parts[2]]
            for name in archive.namelist()
            if (parts := name.split("/"))[1:2] == ["train"] and name.endswith(".JPEG")
        }
        test = {
            f"{ROOT}/val/images/{file}": label_of[synset]
            for file, synset, *_ in _table(archive, "val/val_annotations.txt")
        }
        classes = tuple(words[synset] for synset in label_of)
        return PublishedData(*_tensors(archive, train), *_tensors(archive, test), 255, classes)


def _table(archive: ZipFile, name: str) -> list[list[str]]:
    """The lines of a text file, each as its columns."""
    lines = archive.read(f"{ROOT}/{name}").decode().splitlines()
    return [line.split("\t") for line in lines]


def _tensors(archive: ZipFile, label_of: dict[str, int]) -> tuple[Tensor, Tensor]:
    """Images and labels in the order of the files' names; a few of the pictures are grey."""
    names = sorted(label_of)
    images = np.stack([
        np.asarray(Image.open(BytesIO(archive.read(name))).convert("RGB")) for name in names
    ])  # fmt: skip
    labels = torch.tensor([label_of[name] for name in names])
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), labels
