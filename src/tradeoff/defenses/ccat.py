"""Confidence-calibrated adversarial training (Stutz et al. 2020, section 3 and algorithm 1).

    lambda(x') = (1 - min(1, ||x' - x|| / epsilon))^rho
    t(x')      = lambda onehot(y) + (1 - lambda) / C
    L          = (mean CE(f(x), y) + mean CE(f(x'), t)) / 2

with C classes, the first mean over one half of the batch and the second over the other. The network
is not taught to be right on adversarial examples but to be unsure, the more the farther they are,
so that they can be rejected by their confidence. What counts is its error beyond a threshold of
confidence (`evaluation.rejection`): RA is expected to be poor, and the epoch is chosen by natural
accuracy. Both halves share one forward pass.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.schema import Fraction, Positive, PositiveInt, Section
from tradeoff.networks.backtracking import Backtracking, ascend_rival
from tradeoff.networks.threat import per_sample, perturbation_norm
from tradeoff.training.contract import Loss, Step

SELECT_BY = "natural"
CLASSIFIER = "confident"


class Knobs(Section):
    """rho, and the budget of an attack of its own: see `Backtracking`."""

    rho: Positive
    steps: PositiveInt
    relative_step_size: Positive  # of the first step, over epsilon
    momentum: Fraction
    factor: Positive  # by which a step that is taken back shrinks the rate


def transition(distance: Tensor, epsilon: float, rho: float) -> Tensor:
    """lambda, (N,), of perturbations with these norms (N,)."""
    return (1 - (distance / epsilon).clamp_max(1)) ** rho


def soft_targets(share: Tensor, labels: Tensor, classes: int) -> Tensor:
    """t, (N, C): the label with weight lambda (N,), and all classes alike with the rest."""
    return share[:, None] * F.one_hot(labels, classes) + (1 - share[:, None]) / classes


def start_point(
    images: Tensor, noise: Tensor, radius: Tensor, kind: Tensor, epsilon: float
) -> Tensor:
    """One of three starts for all images, (N, C, H, W).

    Args:
        noise: standard normal, (N, C, H, W).
        radius: uniform in [0, 1), (N,).
        kind: () int64; 0: normal noise, smaller the more pixels there are; 1: a random length up
            to epsilon; 2: the image itself.
    """
    normal = noise * epsilon / (2 * math.log(noise[0].numel()))
    even = epsilon * noise * per_sample(radius / perturbation_norm(noise, "linf"), noise)
    return images + torch.stack([normal, even, torch.zeros_like(noise)])[kind]


def objective(logits: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, a scalar, and its halves.

    Args:
        logits: (N, C), those of the clean images first.
        labels: of the clean images, (S,).
        targets: of the adversarial ones, (N - S, C).
    """
    clean = F.cross_entropy(logits[: len(labels)], labels)
    adversarial = F.cross_entropy(logits[len(labels) :], targets)
    # Of an odd batch the authors weigh each half by the other's share.
    share = len(labels) / len(logits)
    parts = {"clean": clean.detach(), "adversarial": adversarial.detach()}
    return (1 - share) * clean + share * adversarial, parts


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    half, threat = len(images) // 2, step.inner.threat
    noise, radius = step.gaussian_noise(images)[half:], step.uniform(images)[half:]
    kind = torch.randint(3, (), generator=step.generator, device=images.device)
    attacked = images[half:]
    start = start_point(attacked, noise, radius, kind, threat.epsilon)
    rate = knobs.relative_step_size * threat.epsilon
    budget = Backtracking(knobs.steps, rate, knobs.momentum, knobs.factor)
    adversarial = ascend_rival(step.frozen, attacked, labels[half:], start, threat, budget)
    distance = perturbation_norm(adversarial - attacked, threat.norm)
    share = transition(distance, threat.epsilon, knobs.rho)
    logits = model(torch.cat([images[:half], adversarial]))
    targets = soft_targets(share, labels[half:], logits.shape[1])
    total, parts = objective(logits, labels[:half], targets)
    return Loss(total, parts | {"transition": share.mean()})
