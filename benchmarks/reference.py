"""The published training steps as plainly as their authors run them, for comparison only.

Everything is eager float32: the network in eval mode with its BatchNorm layers during the attack,
the clean prediction with its graph at every step of a divergence's ascent, one forward pass of
the objective for each time that it names f(x) or f(x').

    step(model, images, labels, attack) -> the loss, with gradient
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BETA_TRADES, BETA_MART, RADIUS = 6.0, 5.0, 0.5
ALPHA, BETA_DTRADES = 6 / math.log(10), 1.0


@dataclass(frozen=True)
class Attack:
    """PGD in the ball of `epsilon`: steps of `size`, starting points from `draws`.

    Attributes:
        backward: whether gradients are taken as most code of PGD training takes them, by
            `backward()`, those of the parameters too; otherwise by the images alone, as the code of
            TRADES and MART does.
    """

    epsilon: float
    steps: int
    size: float
    draws: torch.Generator
    backward: bool = False

    def near(self, images: Tensor) -> Tensor:
        return images + 0.001 * torch.empty_like(images).normal_(generator=self.draws)

    def anywhere(self, images: Tensor) -> Tensor:
        noise = torch.empty_like(images).uniform_(-1, 1, generator=self.draws)
        return (images + self.epsilon * noise).clamp(0, 1)

    def ascend(
        self, model: nn.Module, loss: Callable[[Tensor], Tensor], images: Tensor, start: Tensor
    ) -> Tensor:
        """The loss's ascent with the model in eval mode, which is in train mode afterwards."""
        model.eval()
        current = start.detach()
        for _ in range(self.steps):
            current = current.detach() + self.size * torch.sign(self._gradient(loss, current))
            current = torch.min(torch.max(current, images - self.epsilon), images + self.epsilon)
            current = torch.clamp(current, 0.0, 1.0)
        model.train()
        model.zero_grad()
        return current

    def _gradient(self, loss: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        images.requires_grad_()
        if not self.backward:
            return torch.autograd.grad(loss(images), [images])[0]
        loss(images).backward()
        assert images.grad is not None
        return images.grad


def divergence(model: nn.Module, attacked: Tensor, images: Tensor, reduction: str) -> Tensor:
    return F.kl_div(
        F.log_softmax(model(attacked), 1), F.softmax(model(images), 1), reduction=reduction
    )


def _attack_labels(
    model: nn.Module, images: Tensor, labels: Tensor, attack: Attack, start: Tensor
) -> Tensor:
    return attack.ascend(model, lambda x: F.cross_entropy(model(x), labels), images, start)


def _attack_divergence(model: nn.Module, images: Tensor, attack: Attack) -> Tensor:
    return attack.ascend(
        model, lambda x: divergence(model, x, images, "sum"), images, attack.near(images)
    )


def at(model: nn.Module, images: Tensor, labels: Tensor, attack: Attack) -> Tensor:
    """PGD training: Madry et al. 2018."""
    attacked = _attack_labels(model, images, labels, attack, attack.anywhere(images))
    return F.cross_entropy(model(attacked), labels)


def trades(model: nn.Module, images: Tensor, labels: Tensor, attack: Attack) -> Tensor:
    """Zhang et al. 2019: f(x) at every step, and twice in the objective."""
    attacked = _attack_divergence(model, images, attack)
    natural = F.cross_entropy(model(images), labels)
    return natural + BETA_TRADES * divergence(model, attacked, images, "batchmean")


def dtrades(model: nn.Module, images: Tensor, labels: Tensor, attack: Attack) -> Tensor:
    """The thesis's weight for each image, in the structure of TRADES."""
    attacked = _attack_divergence(model, images, attack)
    model.eval()
    points = attacked.clone().requires_grad_()
    slope = torch.autograd.grad(divergence(model, points, images, "sum"), [points])[0]
    probabilities = F.softmax(model(images).detach(), 1)
    uncertainty = -(probabilities * torch.log(probabilities)).sum(1)
    weight = ALPHA * uncertainty + BETA_DTRADES * slope.flatten(1).norm(dim=1)
    model.train()
    natural = F.cross_entropy(model(images), labels)
    return natural + (weight * divergence(model, attacked, images, "none").sum(1)).mean()


def mart(model: nn.Module, images: Tensor, labels: Tensor, attack: Attack) -> Tensor:
    """Wang et al. 2020."""
    attacked = _attack_labels(model, images, labels, attack, attack.near(images))
    logits, logits_attacked = model(images), model(attacked)
    adversarial = F.softmax(logits_attacked, 1)
    ranked = torch.argsort(adversarial, 1)[:, -2:]
    rival = torch.where(ranked[:, -1] == labels, ranked[:, -2], ranked[:, -1])
    boosted = F.cross_entropy(logits_attacked, labels) + F.nll_loss(
        torch.log(1.0001 - adversarial + 1e-12), rival
    )
    natural = F.softmax(logits, 1)
    true = torch.gather(natural, 1, labels[:, None]).squeeze(1)
    each = F.kl_div(torch.log(adversarial + 1e-12), natural, reduction="none").sum(1)
    return boosted + BETA_MART * (each * (1.0000001 - true)).mean()


def faal(model: nn.Module, images: Tensor, labels: Tensor, attack: Attack) -> Tensor:
    """Zhang et al. 2024; the weights of the classes by bisection on the host, class by class."""
    attacked = _attack_labels(model, images, labels, attack, attack.anywhere(images))
    logits = model(attacked)
    adversarial = F.softmax(logits.detach(), 1)
    classes = adversarial.shape[1]
    gains = []
    for number in range(classes):
        members = labels == number
        rival = adversarial[members].clone()
        rival[:, number] = -1
        gains.append(float((rival.amax(1) - adversarial[members, number]).sum()))
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
