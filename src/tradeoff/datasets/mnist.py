"""MNIST (LeCun et al. 1998): 70 000 handwritten digits of 28x28 pixels, the published split."""

import gzip
import tempfile
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from torchvision.datasets import MNIST
from torchvision.datasets.mnist import read_image_file, read_label_file

from tradeoff.datasets.download import fetch
from tradeoff.datasets.local import find
from tradeoff.datasets.published import PublishedData

FILES = [(f"MNIST/raw/{name}", md5) for name, md5 in MNIST.resources]
SIZE = {"images": 60_000, "test": 10_000, "image": (1, 28, 28), "classes": 10}


def read(download: Path) -> PublishedData:
    """From a local folder, else from torchvision's mirrors.

    Raises:
        DataMissing: the files are damaged, or neither there nor reachable.
    """
    return read_files(FILES, MNIST.mirrors, tuple(map(str, range(10))), download)


def read_files(
    files: Sequence[tuple[str, str]],
    mirrors: Sequence[str],
    classes: tuple[str, ...],
    download: Path,
) -> PublishedData:
    """The same for four files in MNIST's format: images and labels, for training and for the test.

    Raises:
        DataMissing: the files are damaged, or neither there nor reachable.
    """
    folder = find(files, download) or fetch(files, mirrors, download)
    images, labels, test_images, test_labels = (_parse(folder / name) for name, _ in files)
    return PublishedData(images[:, None], labels, test_images[:, None], test_labels, 255, classes)


def _parse(path: Path) -> Tensor:
    """One idx file, unpacked on the way: torchvision reads only unpacked ones."""
    with tempfile.NamedTemporaryFile() as plain:
        plain.write(gzip.decompress(path.read_bytes()))
        plain.flush()
        if "images" in path.name:
            return read_image_file(plain.name)
        return read_label_file(plain.name)
