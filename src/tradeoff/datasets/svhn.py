"""SVHN (Netzer et al. 2011): house numbers, cropped to 99 289 digits of 32x32 pixels in colour."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets import SVHN

from tradeoff.datasets.download import fetch
from tradeoff.datasets.local import find
from tradeoff.datasets.published import PublishedData

FILES = [(name, md5) for _, name, md5 in (SVHN.split_list["train"], SVHN.split_list["test"])]
MIRRORS = ["http://ufldl.stanford.edu/housenumbers/"]
SIZE = {"images": 73_257, "test": 26_032, "image": (3, 32, 32), "classes": 10}


def read(download: Path) -> PublishedData:
    """From a local folder, else from the authors' server.

    Raises:
        DataMissing: the files are damaged, or neither there nor reachable.
    """
    return read_files(["train"], FILES, download)


def read_files(
    parts: Sequence[str], files: Sequence[tuple[str, str]], download: Path
) -> PublishedData:
    """The same with more parts to train on, one after another.

    Raises:
        DataMissing: the files are damaged, or neither there nor reachable.
    """
    folder = find(files, download) or fetch(files, MIRRORS, download)
    given = [_tensors(SVHN(str(folder), part)) for part in parts]
    images, labels = (torch.cat(tensors) for tensors in zip(*given, strict=True))
    test = _tensors(SVHN(str(folder), "test"))
    return PublishedData(images, labels, *test, white=255, classes=tuple(map(str, range(10))))


def _tensors(part: SVHN) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(part.data).contiguous(), torch.from_numpy(part.labels)
