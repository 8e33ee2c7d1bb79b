"""Fashion-MNIST (Xiao et al. 2017): 70 000 grey pictures of clothes, 28x28, in MNIST's format."""

from pathlib import Path

from torchvision.datasets import FashionMNIST

from tradeoff.datasets import mnist
from tradeoff.datasets.published import PublishedData

FILES = [(f"FashionMNIST/raw/{name}", md5) for name, md5 in FashionMNIST.resources]
SIZE = {"images": 60_000, "test": 10_000, "image": (1, 28, 28), "classes": 10}


def read(download: Path) -> PublishedData:
    """From a local folder, else from the authors' server.

    Raises:
        DataMissing: the files are damaged, or neither there nor reachable.
    """
    classes = tuple(FashionMNIST.classes)
    return mnist.read_files(FILES, FashionMNIST.mirrors, classes, download)
