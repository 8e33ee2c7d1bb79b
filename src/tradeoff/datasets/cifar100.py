"""CIFAR-100 (Krizhevsky 2009): 60 000 colour images of 32x32 pixels in 100 classes."""

from pathlib import Path

from torchvision.datasets import CIFAR100

from tradeoff.datasets import cifar10
from tradeoff.datasets.published import PublishedData

FILES = cifar10.files_of(CIFAR100)
SIZE = {"images": 50_000, "test": 10_000, "image": (3, 32, 32), "classes": 100}


def read(download: Path) -> PublishedData:
    """With its fine labels, from a local folder, else from the authors' server.

    Raises:
        DataMissing: the files are damaged, or neither there nor reachable.
    """
    return cifar10.read_files(CIFAR100, FILES, download)
