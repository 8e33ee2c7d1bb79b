"""Digits (Alpaydin & Kaynak 1998): 1797 scans of 8x8 pixels, embedded in scikit-learn."""

from pathlib import Path

import torch
from sklearn.datasets import load_digits

from tradeoff.datasets.published import PublishedData


def read(download: Path) -> PublishedData:
    """All 1797 images; nothing is downloaded."""
    bunch = load_digits()
    return PublishedData(
        images=torch.from_numpy(bunch.images).to(torch.uint8)[:, None],
        labels=torch.from_numpy(bunch.target).long(),
        test_images=None,
        test_labels=None,
        white=16,
        classes=tuple(map(str, range(10))),
    )
