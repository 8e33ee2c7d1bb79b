"""Root and logarithm that torch does not leave to MKL's vector library.

On a CPU `torch.sqrt` and `torch.log` call it, and it rounds as its processor's kernel does, even
where MKL is told to be the same everywhere. These are torch's own kernels, as exact up to a unit
in the last place.
"""

import torch
from torch import Tensor


def sqrt(values: Tensor) -> Tensor:
    """The square root of numbers >= 0."""
    return values.rsqrt().reciprocal()


def log(values: Tensor) -> Tensor:
    """The natural logarithm."""
    return torch.xlogy(torch.ones_like(values), values)
