"""A gradient in place of a function's own, which leads nowhere: what an adaptive attack follows.

Backward pass differentiable approximation (Athalye et al. 2018, section 4.1): forward the exact
function, backward another one near it, such as the identity for a filter.
"""

from typing import Any

import torch
from torch import Tensor


class _Substituted(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, value: Tensor, path: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient


def with_gradient_of(path: Tensor, value: Tensor) -> Tensor:
    """`value`, exactly, whose gradient goes to `path`, a tensor of the same shape."""
    result: Tensor = _Substituted.apply(value.detach(), path)
    return result
