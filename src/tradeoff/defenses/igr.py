"""Input-gradient regularization (Ross & Doshi-Velez 2018, equation 6), "double backprop".

    L = mean_i CE_i + mu mean_i || N grad_{x_i} mean_j CE_j ||^2

There is no attack. The authors' penalty is lambda / 2 sum_i || grad_{x_i} mean_j CE_j ||^2, whose
weight depends on the size N of the batch: mu = lambda / (2 N). The gradient goes through the
batch's BatchNorm statistics, and the parameters' gradient through all of it. `certainty` takes the
gradient of the cross-entropy against the uniform distribution instead.

The squares of small numbers are computed in float32. A compiled network cannot be differentiated
twice, so training is not compiled.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.schema import NonNegative, Section
from tradeoff.networks.ascent import full_precision
from tradeoff.training.contract import Loss, Step

SELECT_BY = "robust"


class Knobs(Section):
    weight: NonNegative  # mu
    penalty: Literal["label", "certainty"]


def input_gradients(
    model: nn.Module, images: Tensor, labels: Tensor, penalty: str
) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy, a scalar, and the gradient (N, C, H, W) by the images of what `penalty`
    names; both can be differentiated by the parameters."""
    images = images.detach().requires_grad_()
    logits = model(images)
    cross_entropy = F.cross_entropy(logits, labels)
    sensitive = cross_entropy if penalty == "label" else -F.log_softmax(logits, 1).mean()
    return cross_entropy, torch.autograd.grad(sensitive, images, create_graph=True)[0]


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    with full_precision(images):
        cross_entropy, gradient = input_gradients(
            model, images, step.targets(labels), knobs.penalty
        )
        penalty = len(images) * gradient.square().sum()
    parts = {"cross_entropy": cross_entropy.detach(), "penalty": penalty.detach()}
    return Loss(cross_entropy + knobs.weight * penalty, parts)
