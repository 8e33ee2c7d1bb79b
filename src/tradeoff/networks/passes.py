"""Counting what work costs whatever the machine: passes of images through a network."""

import torch
from torch import Tensor, nn


class PassCounter:
    """Forward and backward passes of the networks that are watched, in images."""

    def __init__(self) -> None:
        self.forward = 0
        self.backward = 0

    def count(self, network: nn.Module) -> nn.Module:
        """The network, counted: its weights and mode stay its own."""
        return _Counted(network, self)


class _Counted(nn.Module):
    def __init__(self, network: nn.Module, passes: PassCounter) -> None:
        super().__init__()
        self.network = network
        self._passes = passes
        self.training = in_training(network)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        self._passes.forward += len(images)
        if torch.is_grad_enabled() and logits.requires_grad:
            logits.register_hook(self._count)
        return logits

    def _count(self, gradient: Tensor) -> None:
        self._passes.backward += len(gradient)


def in_training(model: nn.Module) -> bool:
    """Whether it is in train mode; a frozen TorchScript module has no mode any more."""
    return getattr(model, "training", False)
