"""Downloading the files of a data set, one by one, from whichever mirror has them."""

from collections.abc import Sequence
from pathlib import Path
from urllib.error import URLError

from torchvision.datasets.utils import download_url

from tradeoff.datasets.local import unreachable
from tradeoff.datasets.published import DataMissing


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
            addresses = [f"{mirrors[-1]}{Path(name).name}" for name, _ in files]
            raise from_where(addresses, unreachable(files, folder, failure)) from failure
    return folder


def from_where(addresses: Sequence[str], error: DataMissing, how: str = "") -> DataMissing:
    """The same message, with the addresses of what is to be fetched elsewhere."""
    listing = "\n".join(f"  {address}" for address in addresses)
    return DataMissing(f"{error}\nThey are published at{how}:\n{listing}")
