"""Adversarial weight perturbation (Wu et al. 2020): a step with the gradient of moved weights.

    v = gamma ||w|| g / ||g||,    g the gradient of the loss at w

is added to each weight of more than one dimension, so not to those of BatchNorm; the optimiser
steps with the gradient at w + v, and v is taken back. As published, weight decay acts on w + v.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def perturbed_weights(model: nn.Module, gamma: float) -> Iterator[None]:
    """The model with its weights moved up the loss, by the gradients that they have now."""
    moved = []
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "weight" in name and parameter.dim() > 1 and parameter.grad is not None:
                scale = gamma * parameter.norm() / (parameter.grad.norm() + 1e-20)
                perturbation = scale * parameter.grad
                parameter.add_(perturbation)
                moved.append((parameter, perturbation))
    yield
    with torch.no_grad():
        for parameter, perturbation in moved:
            parameter.sub_(perturbation)
