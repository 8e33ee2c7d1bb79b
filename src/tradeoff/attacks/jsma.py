"""Jacobian-based saliency map attack, JSMA (Papernot et al. 2016)."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from tradeoff.attacks.nearest import Nearest
from tradeoff.attacks.outcome import Adversarial, check_inputs
from tradeoff.core.schema import Positive, PositiveInt, Section
from tradeoff.networks.losses import likeliest_others


class Knobs(Section):
    theta: Annotated[Positive, Field(le=1)]  # what is added to a chosen component; 1 saturates it
    gamma: Annotated[Positive, Field(le=1)]  # Upsilon, the largest share of components to change
    targets: PositiveInt | None  # how many other classes, the likeliest ones; null: all


@torch.no_grad()
def jsma(
    model: nn.Module, images: Tensor, labels: Tensor, knobs: Knobs, *_unused: object
) -> Adversarial:
    """Change the most salient pair of components at a time, until another class wins.

    Algorithms 2 and 3 of the paper, on logits as the paper advises, for several targets at once.
    A component is one value of one channel. A sample is done as soon as one of its targets makes
    the model err. At theta 1 the other targets have changed as many components by then, so that
    none of them needs fewer; at a smaller theta a component may be chosen again and another target
    might need fewer, but it is not waited for.

    Returns:
        The images with the fewest changed components that fool the model, and the forward passes,
        summed over the targets.
    """
    check_inputs(model, images, labels)
    nearest = Nearest(images, labels, "l0")
    logits = model(images)
    everyone = torch.arange(len(images), device=images.device)
    attacked = everyone[~nearest.update(everyone, images, logits)]
    likely = likeliest_others(logits, labels, knobs.targets)
    rows, wanted = attacked.repeat_interleave(likely.shape[1]), likely[attacked].flatten()
    current = images[rows]
    for _ in range(int(images[0].numel() * knobs.gamma) // 2):
        if len(rows) == 0:
            break
        toward, away = _forward_derivative(model, current, wanted)
        free = current < 1
        pairs, admissible = best_pairs(toward.flatten(1), away.flatten(1), free.flatten(1))
        rows, wanted = rows[admissible], wanted[admissible]
        current, pairs = current[admissible], pairs[admissible]
        if len(rows) == 0:
            break
        flat = current.flatten(1)
        flat = flat.scatter(1, pairs, (flat.gather(1, pairs) + knobs.theta).clamp(0, 1))
        current = flat.view_as(current)
        nearest.update(rows, current, model(current))
        open_ = nearest.distance[rows].isinf()
        rows, wanted, current = rows[open_], wanted[open_], current[open_]
    return nearest.adversarial()


def best_pairs(toward: Tensor, away: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """The pairs p, q that maximise -(a_p + a_q)(b_p + b_q), with a_p + a_q > 0 > b_p + b_q.

    Of the D (D - 1) / 2 pairs only few need a look. The score rises with a and with -b, so a
    component that two others match or beat in both cannot be needed. In order of falling a, those
    that remain have a -b above the second largest so far.

    Args:
        toward: a, the target's derivative by each component, (M, D).
        away: b, the sum of the other classes' derivatives, (M, D).
        free: which components may still change, (M, D) bool.

    Returns:
        The pairs (M, 2), and whether there is one that meets the conditions (M,) bool.
    """
    gain = toward.where(free, -torch.inf)
    order = gain.argsort(dim=1, descending=True, stable=True)
    gain = gain.gather(1, order)
    drop = (-away).where(free, -torch.inf).gather(1, order)
    unbeaten = drop > _second_largest_before(drop)
    kept = int(unbeaten.sum(1).max())
    if kept == 0:
        return order[:, :1].repeat(1, 2), free.new_zeros(len(free))
    chosen = unbeaten.int().argsort(dim=1, descending=True, stable=True)[:, :kept]
    usable = unbeaten.gather(1, chosen)
    gain, drop = gain.gather(1, chosen), drop.gather(1, chosen)

    gains = gain[:, :, None] + gain[:, None, :]
    drops = drop[:, :, None] + drop[:, None, :]
    different = ~torch.eye(kept, dtype=torch.bool, device=gain.device)
    allowed = (gains > 0) & (drops > 0) & different
    allowed &= usable[:, :, None] & usable[:, None, :]
    scores = (gains * drops).where(allowed, -1).flatten(1)
    score, pair = scores.max(dim=1)
    components = order.gather(1, chosen)
    first, second = pair // kept, pair % kept
    pairs = components.gather(1, torch.stack([first, second], dim=1))
    return pairs, score >= 0


def _second_largest_before(values: Tensor) -> Tensor:
    """For each place in (M, D), the second largest of the values before it; -inf for two."""
    nothing = torch.full_like(values[:, :1], -torch.inf)
    largest_before = torch.cat([nothing, values.cummax(dim=1).values[:, :-1]], dim=1)
    second = values.minimum(largest_before).cummax(dim=1).values
    return torch.cat([nothing, second[:, :-1]], dim=1)


def _forward_derivative(
    model: nn.Module, current: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Derivatives (M, C, H, W) of the target's logit, and of the sum of all the others."""
    current = current.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(current)
        target = logits.gather(1, targets[:, None]).sum()
        others = logits.sum() - target
    toward = torch.autograd.grad(target, current, retain_graph=True)[0]
    return toward, torch.autograd.grad(others, current)[0]
