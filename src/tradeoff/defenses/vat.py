"""Virtual adversarial training (Miyato et al. 2018, equations 5 to 8 and algorithm 1).

    L(x, y) = CE(f(x), y) + w KL(p(x) || p(x + r)),    r = radius d

d is the direction of unit l2 norm along which the divergence curves most. The power method finds
it: from a random d, d <- grad_r KL(p(x) || p(x + r)) at r = xi d, scaled to 1 again. The first p(x)
is a constant, and x + r is not clipped to [0, 1]. The entropy of p(x) may be added (section 4.2).

The authors' xi = 1e-6 is below the spacing of float32 at a pixel of 0.5; at 1e-2 a float32
direction has cosine 0.998 with that of the Hessian. At 10, as some ports have it, the method is
another one. Differences that small need float32, whatever training's precision is. VAT smooths the
network in l2: no robustness in linf is to be expected.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.schema import NonNegative, Positive, PositiveInt, Section
from tradeoff.networks.ascent import full_precision, input_gradient
from tradeoff.networks.device import matrix_precision
from tradeoff.networks.losses import entropy, kl_divergence
from tradeoff.networks.threat import steepest
from tradeoff.training.contract import Loss, Step

SELECT_BY = "robust"


class Knobs(Section):
    radius: Positive  # of r in l2
    xi: Positive  # length of r where the divergence is differentiated
    iterations: PositiveInt  # of the power method
    weight: NonNegative  # of the divergence, w
    entropy: NonNegative  # weight of p(x)'s entropy


def virtual_direction(
    model: nn.Module, images: Tensor, noise: Tensor, xi: float, iterations: int
) -> Tensor:
    """d, (N, C, H, W), each of unit l2 norm; from standard normal noise of the same shape.

    The model is in eval mode, so that images do not influence each other.
    """
    with full_precision(images), matrix_precision("ieee"):
        with torch.no_grad():
            clean = F.log_softmax(model(images), 1)

        def divergence(candidates: Tensor) -> Tensor:
            return kl_divergence(clean, model(candidates))

        direction = steepest(noise, "l2")
        for _ in range(iterations):
            gradient = input_gradient(divergence, images + xi * direction)
            direction = steepest(gradient, "l2")
    return direction


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    noise = step.gaussian_noise(images)
    direction = virtual_direction(step.frozen, images, noise, knobs.xi, knobs.iterations)
    logits, perturbed = model(images), model(images + knobs.radius * direction)
    cross_entropy = F.cross_entropy(logits, step.targets(labels))
    divergence = kl_divergence(F.log_softmax(logits.detach(), 1), perturbed).mean()
    uncertainty = entropy(logits).mean()
    total = cross_entropy + knobs.weight * divergence + knobs.entropy * uncertainty
    parts = {"cross_entropy": cross_entropy, "divergence": divergence, "entropy": uncertainty}
    return Loss(total, {name: value.detach() for name, value in parts.items()})
