"""MNIST (LeCun et al. 1998): 70 000 handwritten digits of 28x28 pixels, the published split."""

import gzip
import tempfile
from pathlib import Path
from urllib.error import URLError

from torch import Tensor
from torchvision.datasets import MNIST
from torchvision.datasets.mnist import read_image_file, read_label_file
from torchvision.datasets.utils import download_url

from tradeoff.datasets.local import find, unreachable
from tradeoff.datasets.published import PublishedData

FILES = [(f"MNIST/raw/{name}", md5) for name, md5 in MNIST.resources]


def read(download: Path) -> PublishedData:
    """From a local folder, else from torchvision's mirrors.

    Raises:
        DataMissing: the files are damaged, or neither there nor reachable.
    """
    folder = find(FILES, download) or _download(download)
    images, labels, test_images, test_labels = (_parse(folder / name) for name, _ in FILES)
    return PublishedData(
        images[:, None], labels, test_images[:, None], test_labels, 255, tuple(map(str, range(10)))
    )


def _download(folder: Path) -> Path:
    for name, md5 in FILES:
        failure: Exception | None = None
        for mirror in MNIST.mirrors:
            try:
                file = Path(name).name
                download_url(f"{mirror}{file}", str((folder / name).parent), file, md5)
                break
            except (URLError, OSError, RuntimeError) as error:  # unreachable, cut off, wrong MD5
                failure = error
        else:
            assert failure is not None
            raise unreachable(FILES, folder, failure) from failure
    return folder


def _parse(path: Path) -> Tensor:
    """One idx file, unpacked on the way: torchvision reads only unpacked ones."""
    with tempfile.NamedTemporaryFile() as plain:
        plain.write(gzip.decompress(path.read_bytes()))
        plain.flush()
        if "images" in path.name:
            return read_image_file(plain.name)
        return read_label_file(plain.name)
