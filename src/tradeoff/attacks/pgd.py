"""Projected gradient descent as an evaluation (Madry et al. 2018, section 2.1)."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.attacks.outcome import Adversarial, Best, check_inputs
from tradeoff.core.schema import Positive, PositiveInt, Section
from tradeoff.networks.losses import margin
from tradeoff.networks.randomness import normal, uniform
from tradeoff.networks.threat import Threat, random_start, step_up

TARGETS = -1  # the counter of a sample's random target; starts are counted from 0


class Knobs(Section):
    """The budget of PGD.

    The loss "margin" is that of Carlini & Wagner (2017, section V.A, f_6), z_y - max_{j != y} z_j,
    which does not vanish where the model is certain. Their kappa, the margin from which it stops
    to fall, would change nothing here: a fooled sample has left.

    With a target PGD climbs towards one class, that of least probability on the clean image or one
    at random; any other class than the label counts as fooled all the same. The logits may be
    divided by a temperature: that of a distilled network makes its cross-entropy alive again.
    """

    loss: Literal["cross_entropy", "margin"]
    steps: PositiveInt
    relative_step_size: Positive  # step size over epsilon
    restarts: PositiveInt
    target: Literal["least_likely", "random"] | None = None
    temperature: Positive = 1.0


def pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    knobs: Knobs,
    threat: Threat,
    keys: Tensor,
) -> Adversarial:
    """PGD from random starts; every iterate is tried, and a fooled sample leaves at once."""
    check_inputs(model, images, labels)
    best = Best(images)
    queries = torch.zeros_like(labels)
    step_size = knobs.relative_step_size * threat.epsilon
    targets = targets_of(model, images, labels, knobs.target, keys)
    for restart in range(knobs.restarts):
        rows = torch.where(~best.fooled)[0]  # the samples that are still attacked
        current = keyed_start(images[rows], keys[rows], threat, restart)
        for step in range(knobs.steps + 1):
            if len(rows) == 0:
                break
            wanted = None if targets is None else targets[rows]
            logits, gradient = _logits_and_gradient(
                model, current, labels[rows], wanted, knobs, last=step == knobs.steps
            )
            queries[rows] += 1
            best.update(current, logits, labels[rows], at=rows)
            robust = ~best.fooled[rows]
            rows, current = rows[robust], current[robust]
            if gradient is not None:
                current = step_up(current, gradient[robust], images[rows], threat, step_size)
    return Adversarial(best.images, queries)


def keyed_start(images: Tensor, keys: Tensor, threat: Threat, restart: int = 0) -> Tensor:
    """A uniform random point of the threat (N, C, H, W) that belongs to each sample's key."""
    shape = tuple(images.shape[1:])
    if threat.norm == "linf":
        noise = 2 * uniform(keys, 2 * restart, shape) - 1
    else:
        noise = normal(keys, 2 * restart, shape)
    return random_start(images, noise, uniform(keys, 2 * restart + 1, ()), threat)


@torch.no_grad()
def targets_of(
    model: nn.Module, images: Tensor, labels: Tensor, kind: str | None, keys: Tensor | None
) -> Tensor | None:
    """The wrong class (N,) that each image is to be taken for; None if there is to be none.

    Args:
        kind: least_likely on the clean image | random, the same for a sample in any batch.

    Raises:
        ValueError: the classes are to be random, without keys.
    """
    if kind is None:
        return None
    logits = model(images)
    if kind == "least_likely":
        return logits.scatter(1, labels[:, None], float("inf")).argmin(1)
    if keys is None:
        raise ValueError("random targets need keys, one for each image")
    others = logits.shape[1] - 1
    ahead = 1 + (uniform(keys, TARGETS, ()) * others).long().clamp_max(others - 1)
    return (labels + ahead) % (others + 1)


def attack_loss(
    logits: Tensor, labels: Tensor, targets: Tensor | None, loss: str = "cross_entropy"
) -> Tensor:
    """What an attack climbs, (N,): away from the labels, or towards targets if there are any."""
    if loss == "cross_entropy":
        away = F.cross_entropy(logits, labels if targets is None else targets, reduction="none")
        return away if targets is None else -away
    if targets is None:
        return -margin(logits, labels)
    own, wanted = (logits.gather(1, chosen[:, None]).squeeze(1) for chosen in (labels, targets))
    return wanted - own


def _logits_and_gradient(
    model: nn.Module,
    points: Tensor,
    labels: Tensor,
    targets: Tensor | None,
    knobs: Knobs,
    last: bool,
) -> tuple[Tensor, Tensor | None]:
    if last:
        with torch.no_grad():
            return model(points), None
    points = points.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(points)
        loss = attack_loss(logits / knobs.temperature, labels, targets, knobs.loss)
    return logits.detach(), torch.autograd.grad(loss.sum(), points)[0]
