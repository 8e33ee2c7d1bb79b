"""Where the files of a published data set are looked for, and the checks before they are read."""

import os
from collections.abc import Iterable
from pathlib import Path

from torchvision.datasets.utils import check_integrity

from tradeoff.datasets.published import DataMissing

VARIABLE = "TRADEOFF_DATA"

Files = Iterable[tuple[str, str]]


def find(files: Files, download: Path) -> Path | None:
    """The folder that holds all `files` (path in torchvision's layout, MD5), intact.

    The folder named by TRADEOFF_DATA comes first, then `download`. None: they must be downloaded.

    Raises:
        DataMissing: TRADEOFF_DATA is set, but a file in it is damaged or only some are there.
    """
    named = os.environ.get(VARIABLE)
    if named and any(Path(named, name).exists() for name, _ in files):
        bad = [name for name, md5 in files if not check_integrity(Path(named, name), md5)]
        if bad:
            raise DataMissing(
                f"{VARIABLE}={named}: missing or not what was published (by MD5): "
                f"{', '.join(bad)}. Replace these files, or unset {VARIABLE} to download them."
            )
        return Path(named)
    if all(check_integrity(download / name, md5) for name, md5 in files):
        return download
    return None


def unreachable(files: Files, download: Path, error: Exception) -> DataMissing:
    """What to tell when a download failed."""
    named = os.environ.get(VARIABLE)
    searched = f" {VARIABLE}={named} holds none of them." if named else ""
    listing = "\n".join(f"  {name}  (MD5 {md5})" for name, md5 in files)
    return DataMissing(
        f"The download failed: {error}.{searched}\nOn a machine without internet, put these files "
        f"into a folder, for example {download.resolve()}, and name it in {VARIABLE}:\n{listing}"
    )
