"""SVHN with its 531 131 extra, easier digits to train on, and the same test.

Carmon et al. (2019) use them without their labels: `rst` with `labelled: 0.12`, the share that the
73 257 usual training images are, knows as many labels. Preparing all of them takes 18 GB of memory;
`split.limit` keeps fewer.
"""

from pathlib import Path

from torchvision.datasets import SVHN

from tradeoff.datasets import svhn
from tradeoff.datasets.published import PublishedData

_, NAME, MD5 = SVHN.split_list["extra"]
FILES = [*svhn.FILES, (NAME, MD5)]
SIZE = {"images": 604_388, "test": 26_032, "image": (3, 32, 32), "classes": 10}


def read(download: Path) -> PublishedData:
    """From a local folder, else from the authors' server.

    Raises:
        DataMissing: the files are damaged, or neither there nor reachable.
    """
    return svhn.read_files(["train", "extra"], FILES, download)
