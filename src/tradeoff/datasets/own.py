"""What one's own data sets have in common, whether they are folders of images or arrays."""

import hashlib
from collections.abc import Iterable, Sequence

from torch import Tensor

from tradeoff.datasets.published import DataMissing

SHOWN = 5  # faults that are named; of more the number is told


def refuse(where: object, faults: Iterable[str]) -> None:
    """Stop if there are faults.

    Raises:
        DataMissing: names the first of them.
    """
    found = list(faults)
    if found:
        more = [f"... and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        raise DataMissing("\n".join([f"{where}:", *found[:SHOWN], *more]))


def repeated(images: Iterable[Tensor], names: Sequence[str]) -> list[str]:
    """Which images are there twice: one would be trained on, and the other tested."""
    first: dict[bytes, str] = {}
    faults = []
    for image, name in zip(images, names, strict=True):
        digest = hashlib.sha256(image.numpy().tobytes()).digest()
        if digest in first:
            faults.append(f"{first[digest]} and {name} are the same image; keep one of them")
        first.setdefault(digest, name)
    return faults
