"""Downloading the files of a data set, one by one, from whichever mirror has them."""

from collections.abc import Sequence
from pathlib import Path
from urllib.error import URLError

from torchvision.datasets.utils import download_url

from tradeoff.datasets.local import unreachable


def fetch(files: Sequence[tuple[str, str]], mirrors: Sequence[str], folder: Path) -> Path:
    """The folder, with all `files` (path below it, MD5) in it; mirrors are addresses that end in /.

    Raises:
        DataMissing: no mirror has one of them as it was published.
    """
    for name, md5 in files:
        failure: Exception | None = None
        for mirror in mirrors:
            try:
                file = Path(name).name
                download_url(f"{mirror}{file}", str((folder / name).parent), file, md5)
                break
            except (URLError, OSError, RuntimeError) as error:  # unreachable, cut off, wrong MD5
                failure = error
        else:
            assert failure is not None
            raise unreachable(files, folder, failure) from failure
    return folder
