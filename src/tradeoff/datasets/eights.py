"""The digit 8 against all others, as many of each, of scikit-learn's scans: two classes.

The problem on which Anderson & Sojoudi (2022) show locally biased smoothing.
"""

from pathlib import Path

import torch

from tradeoff.datasets import digits
from tradeoff.datasets.published import PublishedData
from tradeoff.networks.randomness import generator


def read(download: Path) -> PublishedData:
    """The same images on every machine; nothing is downloaded."""
    scans = digits.read(download)
    (eights,) = torch.where(scans.labels == 8)
    (others,) = torch.where(scans.labels != 8)
    drawn = others[torch.randperm(len(others), generator=generator("eights"))[: len(eights)]]
    chosen = torch.cat([eights, drawn])
    labels = (scans.labels[chosen] == 8).long()
    names = ("another", "8")
    return PublishedData(scans.images[chosen], labels, None, None, scans.white, names)
