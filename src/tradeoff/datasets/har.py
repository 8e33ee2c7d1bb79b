"""HAR (Anguita et al. 2013): what people do, by 561 features of their smartphone's movements.

7352 windows of 21 people to train on, 2947 of nine others for the test. The authors' features are
in [-1, 1]; here they are in [0, 1], so that an epsilon of theirs is half as large.
"""

import hashlib
import os
from io import BytesIO
from pathlib import Path
from urllib.error import URLError
from zipfile import ZipFile

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets.utils import download_url

from tradeoff.datasets.local import VARIABLE
from tradeoff.datasets.published import DataMissing, PublishedData

FILE = "human+activity+recognition+using+smartphones.zip"
INNER, ROOT = "UCI HAR Dataset.zip", "UCI HAR Dataset"
SHA256 = "c00b803081a5c797cd5e4b83700a9810b38d53d9d84e01917e090e1fdbc81031"
ADDRESS = "https://archive.ics.uci.edu/static/public/240/"
SIZE = {"images": 7352, "test": 2947, "image": (1, 1, 561), "classes": 6}


def read(download: Path) -> PublishedData:
    """From the archive in a local folder, else from UCI's repository.

    Raises:
        DataMissing: the archive is damaged, or neither there nor reachable.
    """
    with ZipFile(_archive(download)) as outer, ZipFile(BytesIO(outer.read(INNER))) as archive:
        names = archive.read(f"{ROOT}/activity_labels.txt").decode().split()[1::2]
        parts = [_tensors(archive, part) for part in ("train", "test")]
    classes = tuple(name.lower().replace("_", " ") for name in names)
    return PublishedData(*parts[0], *parts[1], white=1, classes=classes)


def _archive(download: Path) -> Path:
    """The file as published, in the folder that TRADEOFF_DATA names or in the other."""
    named = os.environ.get(VARIABLE)
    here = [Path(folder, FILE) for folder in (named, download) if folder]
    path = next((file for file in here if file.exists()), download / FILE)
    try:
        if not path.exists():
            download_url(f"{ADDRESS}{FILE}", str(download), FILE)
    except (URLError, OSError, RuntimeError) as error:
        raise DataMissing(
            f"The download failed: {error}.\nOn a machine without internet, put {ADDRESS}{FILE} "
            f"(SHA-256 {SHA256}) into a folder, for example {download.resolve()}, and name it in "
            f"{VARIABLE}"
        ) from error
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise DataMissing(f"{path}: not what was published (by SHA-256 {SHA256}); delete it")
    return path


def _tensors(archive: ZipFile, part: str) -> tuple[Tensor, Tensor]:
    """Features (N, 1, 1, 561) in [0, 1], and labels from 0."""
    features, labels = (
        np.loadtxt(BytesIO(archive.read(f"{ROOT}/{part}/{name}_{part}.txt"))) for name in "Xy"
    )
    images = torch.from_numpy((features + 1) / 2).float().clamp(0, 1)
    return images[:, None, None], torch.from_numpy(labels).long() - 1
