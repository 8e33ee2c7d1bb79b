"""The published training steps as plainly as their authors run them, for comparison only.

Everything is eager float32: the network in eval mode with its BatchNorm layers during the attack,
the clean prediction with its graph at every step of a divergence's ascent, one forward pass of
the objective for each time that it names f(x) or f(x').

    step(model, images, labels, threat, steps, step_size, generator) -> the loss, with gradient
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BETA_TRADES, BETA_MART, RADIUS = 6.0, 5.0, 0.5
ALPHA, BETA_DTRADES = 6 / math.log(10), 1.0

Loss = Callable[[Tensor], Tensor]
ReferenceStep = Callable[[nn.Module, Tensor, Tensor, float, int, float, torch.Generator], Tensor]


def near(images: Tensor, draws: torch.Generator) -> Tensor:
    return images + 0.001 * torch.empty_like(images).normal_(generator=draws)


def anywhere(images: Tensor, epsilon: float, draws: torch.Generator) -> Tensor:
    noise = torch.empty_like(images).uniform_(-1, 1, generator=draws)
    return (images + epsilon * noise).clamp(0, 1)


def ascend(
    loss: Loss, images: Tensor, start: Tensor, epsilon: float, steps: int, size: float
) -> Tensor:
    """As the code of TRADES and MART has it: gradients by the images alone."""
    current = start.detach()
    for _ in range(steps):
        current.requires_grad_()
        with torch.enable_grad():
            value = loss(current)
        gradient = torch.autograd.grad(value, [current])[0]
        current = current.detach() + size * torch.sign(gradient.detach())
        current = torch.min(torch.max(current, images - epsilon), images + epsilon)
        current = torch.clamp(current, 0.0, 1.0)
    return current


def ascend_backward(
    loss: Loss, images: Tensor, start: Tensor, epsilon: float, steps: int, size: float
) -> Tensor:
    """As most code of PGD training has it: `backward`, parameter gradients and all."""
    current = start.detach()
    for _ in range(steps):
        current.requires_grad_()
        loss(current).backward()
        assert current.grad is not None
        current = current.detach() + size * torch.sign(current.grad)
        current = torch.min(torch.max(current, images - epsilon), images + epsilon)
        current = torch.clamp(current, 0.0, 1.0)
    return current


def divergence(model: nn.Module, attacked: Tensor, images: Tensor, reduction: str) -> Tensor:
    return F.kl_div(
        F.log_softmax(model(attacked), 1), F.softmax(model(images), 1), reduction=reduction
    )


def at(
    model: nn.Module, images: Tensor, labels: Tensor, epsilon: float, steps: int, size: float,
    draws: torch.Generator, climb: Callable[..., Tensor] = ascend,
) -> Tensor:  # fmt: skip
    """PGD training: Madry et al. 2018."""
    model.eval()
    start = anywhere(images, epsilon, draws)
    attacked = climb(
        lambda x: F.cross_entropy(model(x), labels), images, start, epsilon, steps, size
    )
    model.train()
    model.zero_grad()
    return F.cross_entropy(model(attacked), labels)


def at_backward(
    model: nn.Module, images: Tensor, labels: Tensor, epsilon: float, steps: int, size: float,
    draws: torch.Generator,
) -> Tensor:  # fmt: skip
    return at(model, images, labels, epsilon, steps, size, draws, ascend_backward)


def trades(
    model: nn.Module, images: Tensor, labels: Tensor, epsilon: float, steps: int, size: float,
    draws: torch.Generator,
) -> Tensor:  # fmt: skip
    """Zhang et al. 2019: f(x) at every step, and twice in the objective."""
    attacked = _attack_divergence(model, images, epsilon, steps, size, draws)
    model.train()
    natural = F.cross_entropy(model(images), labels)
    return natural + BETA_TRADES * divergence(model, attacked, images, "batchmean")


def dtrades(
    model: nn.Module, images: Tensor, labels: Tensor, epsilon: float, steps: int, size: float,
    draws: torch.Generator,
) -> Tensor:  # fmt: skip
    """The thesis's weight for each image, in the structure of TRADES."""
    attacked = _attack_divergence(model, images, epsilon, steps, size, draws)
    points = attacked.clone().requires_grad_()
    slope = torch.autograd.grad(divergence(model, points, images, "sum"), [points])[0]
    probabilities = F.softmax(model(images).detach(), 1)
    uncertainty = -(probabilities * torch.log(probabilities)).sum(1)
    weight = ALPHA * uncertainty + BETA_DTRADES * slope.flatten(1).norm(dim=1)
    model.train()
    natural = F.cross_entropy(model(images), labels)
    return natural + (weight * divergence(model, attacked, images, "none").sum(1)).mean()


def mart(
    model: nn.Module, images: Tensor, labels: Tensor, epsilon: float, steps: int, size: float,
    draws: torch.Generator,
) -> Tensor:  # fmt: skip
    """Wang et al. 2020."""
    model.eval()
    attacked = ascend(
        lambda x: F.cross_entropy(model(x), labels), images, near(images, draws),
        epsilon, steps, size,
    )  # fmt: skip
    model.train()
    logits, logits_attacked = model(images), model(attacked)
    found = F.softmax(logits_attacked, 1)
    ranked = torch.argsort(found, 1)[:, -2:]
    rival = torch.where(ranked[:, -1] == labels, ranked[:, -2], ranked[:, -1])
    boosted = F.cross_entropy(logits_attacked, labels) + F.nll_loss(
        torch.log(1.0001 - found + 1e-12), rival
    )
    natural = F.softmax(logits, 1)
    true = torch.gather(natural, 1, labels[:, None]).squeeze(1)
    each = F.kl_div(torch.log(found + 1e-12), natural, reduction="none").sum(1)
    return boosted + BETA_MART * (each * (1.0000001 - true)).mean()


def faal(
    model: nn.Module, images: Tensor, labels: Tensor, epsilon: float, steps: int, size: float,
    draws: torch.Generator,
) -> Tensor:  # fmt: skip
    """Zhang et al. 2024; the weights of the classes by bisection on the host, class by class."""
    model.eval()
    start = anywhere(images, epsilon, draws)
    attacked = ascend(
        lambda x: F.cross_entropy(model(x), labels), images, start, epsilon, steps, size
    )
    model.train()
    logits = model(attacked)
    found = F.softmax(logits.detach(), 1)
    classes = found.shape[1]
    gains = []
    for number in range(classes):
        mine = labels == number
        rival = found[mine].clone()
        rival[:, number] = -1
        total = (rival.amax(1) - found[mine, number]).sum() if mine.any() else torch.zeros(())
        gains.append(total.item())
    top = max(gains)
    spread = max(top - min(gains), 1e-12)
    low, high = -40.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        inverse = [1 / ((top - gain) / spread + math.exp(middle)) for gain in gains]
        weights = [value / sum(inverse) for value in inverse]
        far = -math.log(classes) - sum(map(math.log, weights)) / classes > RADIUS
        low, high = (middle, high) if far else (low, middle)
    weight = torch.tensor(weights, device=images.device)[labels]
    return classes * (weight * F.cross_entropy(logits, labels, reduction="none")).mean()


def _attack_divergence(
    model: nn.Module, images: Tensor, epsilon: float, steps: int, size: float,
    draws: torch.Generator,
) -> Tensor:  # fmt: skip
    model.eval()
    return ascend(
        lambda x: divergence(model, x, images, "sum"), images, near(images, draws),
        epsilon, steps, size,
    )  # fmt: skip
