"""CIFAR-10 (Krizhevsky 2009): 60 000 colour images of 32x32 pixels, the published split."""

from collections.abc import Sequence
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import download_and_extract_archive

from tradeoff.datasets.download import from_where
from tradeoff.datasets.local import find, unreachable
from tradeoff.datasets.published import PublishedData


def files_of(published: type[CIFAR10]) -> list[tuple[str, str]]:
    """The files of CIFAR-10 or CIFAR-100, with their MD5, in torchvision's layout."""
    batches = [*published.train_list, *published.test_list]
    named = [*batches, (published.meta["filename"], published.meta["md5"])]
    return [(f"{published.base_folder}/{name}", md5) for name, md5 in named]


FILES = files_of(CIFAR10)
SIZE = {"images": 50_000, "test": 10_000, "image": (3, 32, 32), "classes": 10}


def read(download: Path) -> PublishedData:
    """From a local folder, else from the authors' server.

    The batches are pickles; they are opened only after their checksums, twice: here and by
    torchvision.

    Raises:
        DataMissing: the files are damaged, or neither there nor reachable.
    """
    return read_files(CIFAR10, FILES, download)


def read_files(
    published: type[CIFAR10], files: Sequence[tuple[str, str]], download: Path
) -> PublishedData:
    """The same for the one or the other of the authors' data sets.

    Raises:
        DataMissing: the files are damaged, or neither there nor reachable.
    """
    folder = find(files, download) or _download(published, files, download)
    train, test = (published(str(folder), train=part) for part in (True, False))
    return PublishedData(*_tensors(train), *_tensors(test), white=255, classes=tuple(train.classes))


def _download(published: type[CIFAR10], files: Sequence[tuple[str, str]], folder: Path) -> Path:
    try:
        download_and_extract_archive(
            published.url, str(folder), filename=published.filename, md5=published.tgz_md5
        )
    except (URLError, OSError, RuntimeError) as error:  # unreachable, cut off, wrong MD5
        missing = unreachable(files, folder, error)
        raise from_where([published.url], missing, ", in an archive to unpack") from error
    return folder


def _tensors(part: CIFAR10) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets)
