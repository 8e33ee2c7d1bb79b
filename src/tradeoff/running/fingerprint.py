"""A name for everything that determines a result, for work that goes on after an interruption."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

PACKAGE = Path(__file__).parents[1]


def fingerprint(about: Any, tensors: Iterable[Tensor], code: Iterable[str]) -> str:
    """16 hexadecimal digits of a hash.

    Args:
        about: what JSON can hold.
        tensors: weights, images, labels.
        code: patterns of this package's files, such as "core/*.py".
    """
    digest = hashlib.sha256(json.dumps([about, torch.__version__], sort_keys=True).encode())
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    for path in sorted(path for pattern in code for path in PACKAGE.glob(pattern)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
