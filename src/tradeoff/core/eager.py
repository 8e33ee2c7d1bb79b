"""Where layers of this package compute in a way of their own."""

import torch
from torch import Tensor


def eagerly_on_cpu(features: Tensor) -> bool:
    """Whether they are on a CPU and no compiler is reading along.

    The ways of `core.grey` and `core.smallmaps` pay on a CPU alone, and are opaque to a compiler.
    """
    return features.device.type == "cpu" and not torch.compiler.is_compiling()
