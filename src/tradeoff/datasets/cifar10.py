"""CIFAR-10 (Krizhevsky 2009): 60 000 colour images of 32x32 pixels, the published split."""

from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import download_and_extract_archive

from tradeoff.datasets.local import find, unreachable
from tradeoff.datasets.published import PublishedData

FILES = [
    (f"{CIFAR10.base_folder}/{name}", md5)
    for name, md5 in [
        *CIFAR10.train_list,
        *CIFAR10.test_list,
        (CIFAR10.meta["filename"], CIFAR10.meta["md5"]),
    ]
]


def read(download: Path) -> PublishedData:
    """From a local folder, else from the authors' server.

    The batches are pickles; they are opened only after their checksums, twice: here and by
    torchvision.

    Raises:
        DataMissing: the files are damaged, or neither there nor reachable.
    """
    folder = find(FILES, download) or _download(download)
    train, test = (CIFAR10(str(folder), train=part) for part in (True, False))
    return PublishedData(*_tensors(train), *_tensors(test), white=255, classes=tuple(train.classes))


def _download(folder: Path) -> Path:
    try:
        download_and_extract_archive(
            CIFAR10.url, str(folder), filename=CIFAR10.filename, md5=CIFAR10.tgz_md5
        )
    except (URLError, OSError, RuntimeError) as error:  # unreachable, cut off, wrong MD5
        raise unreachable(FILES, folder, error) from error
    return folder


def _tensors(part: CIFAR10) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets)
