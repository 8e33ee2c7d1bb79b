"""What a data set's file gives: `read(downloads) -> PublishedData`.

One that reads what a user has put into data/own has a class `Knobs`, as attacks have, and gives
`read(folder, knobs) -> PublishedData`.
"""

from dataclasses import dataclass

from torch import Tensor


class DataMissing(Exception):
    """The files of a data set are missing or not as published; the message says what to do."""


@dataclass(frozen=True)
class PublishedData:
    """A data set as published.

    Attributes:
        images, labels: (N, C, H, W), uint8 or floats, and int64 (N,), for training and validation.
        test_images, test_labels: the published test split, or None: it is split off `images`.
        white: the pixel value that means 1.0.
        classes: their names.
    """

    images: Tensor
    labels: Tensor
    test_images: Tensor | None
    test_labels: Tensor | None
    white: int
    classes: tuple[str, ...]
