"""Pairs of digits side by side: 100 classes of 8x16 pixels, made of scikit-learn's scans.

Many classes without new data: Li et al. (2024) see gradients masked by TRADES where classes are
many. A scan is in several pairs, so that test pairs have halves that training pairs have too.
"""

from pathlib import Path

import torch

from tradeoff.datasets import digits
from tradeoff.datasets.published import PublishedData
from tradeoff.networks.randomness import generator

PER_CLASS = 60


def read(download: Path) -> PublishedData:
    """60 pairs of each class, from the same draw on every machine; nothing is downloaded."""
    scans = digits.read(download)
    draws = generator("digit_pairs")
    pairs, labels = [], []
    for left in range(10):
        for right in range(10):
            halves = [_some(scans.images[scans.labels == digit], draws) for digit in (left, right)]
            pairs.append(torch.cat(halves, dim=3))
            labels += [10 * left + right] * PER_CLASS
    names = tuple(f"{left}{right}" for left in range(10) for right in range(10))
    return PublishedData(torch.cat(pairs), torch.tensor(labels), None, None, scans.white, names)


def _some(images: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    """PER_CLASS of the images of a digit, none of them twice."""
    return images[torch.randperm(len(images), generator=draws)[:PER_CLASS]]
