"""HAT (Rade & Moosavi-Dezfooli 2022): TRADES or AT, held back by a standard-trained helper g.

    L = CE(f(x), y) + beta KL(f(x) || f(x')) + gamma CE(f(x + h (x' - x)), argmax g(x'))

Adversarial training moves the decision boundary farther than its threat asks, at the cost of
accuracy. So at h times the perturbation, h = 2, the label is what the helper sees at x', which is
often another class. With `objective: at` the second term is beta CE(f(x'), y).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.schema import NonNegative, Positive, Section
from tradeoff.defenses import at, trades
from tradeoff.training.contract import Loss, Step

SELECT_BY = "robust"
BASES = ("natural",)


class Knobs(Section):
    objective: Literal["trades", "at"]
    beta: NonNegative
    gamma: NonNegative
    reach: Positive


def beyond(images: Tensor, adversarial: Tensor, reach: float) -> Tensor:
    """x + h (x' - x), (N, C, H, W), not clipped to [0, 1], as the authors' code has it."""
    return images + reach * (adversarial - images)


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    if knobs.objective == "trades":
        adversarial = trades.adversarial_examples(images, step.eval_logits(images), step)
    else:
        adversarial = at.adversarial_examples(images, labels, step)
    with torch.no_grad():
        helper_labels = step.bases["natural"](adversarial).argmax(1)
    targets = step.targets(labels)
    clean_logits, adversarial_logits = model(images), model(adversarial)
    if knobs.objective == "trades":
        total, parts = trades.objective(clean_logits, adversarial_logits, targets, knobs.beta)
    else:
        clean = F.cross_entropy(clean_logits, targets)
        attacked = F.cross_entropy(adversarial_logits, targets)
        total = clean + knobs.beta * attacked
        parts = {"cross_entropy": clean.detach(), "adversarial": attacked.detach()}
    helper = F.cross_entropy(model(beyond(images, adversarial, knobs.reach)), helper_labels)
    return Loss(total + knobs.gamma * helper, parts | {"helper": helper.detach()})
