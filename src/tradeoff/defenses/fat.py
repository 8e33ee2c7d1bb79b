"""FAT, friendly adversarial training (Zhang et al. 2020, "Attacks Which Do Not Kill Training").

Of the examples that fool the network it trains on the first that PGD meets, not on the worst: each
image stops on its own, when it is misclassified and its allowance tau is used up. An image spends
one of it at each step that begins misclassified, in total and not in a row; tau = 0 stops at the
first such point, which may be the start. tau begins at 0 and grows by one at each of `grows_at`, as
the network withstands more. With `objective: trades` both attack and loss are those of TRADES.
"""

from contextlib import nullcontext
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.schema import BadParams, Fraction, NonNegative, Section
from tradeoff.defenses import trades
from tradeoff.networks.ascent import InnerAttack, full_precision
from tradeoff.networks.losses import kl_divergence
from tradeoff.networks.threat import step_up
from tradeoff.training.contract import Loss, Step

SELECT_BY = "robust"
SIZES = 8  # of the batch that is left: few, since each is compiled and its kernels are chosen anew


class Knobs(Section):
    objective: Literal["at", "trades"]
    beta: NonNegative
    grows_at: list[Fraction]
    noise: NonNegative


def allowance(epoch: int, epochs: int, grows_at: list[float]) -> int:
    """tau in an epoch, counted from 0: how many of these shares of training are done."""
    return sum(epoch >= round(share * epochs) for share in grows_at)


def friendly_examples(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    start: Tensor,
    inner: InnerAttack,
    tau: int,
    noise: Tensor | None = None,
    clean_log_probabilities: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """PGD whose images stop one by one, (N, C, H, W), and how many steps each took, (N,).

    Images that have stopped are left out of the batch, so that they cost nothing.

    Args:
        noise: what is added to each step before the projection, (steps, N, C, H, W).
        clean_log_probabilities: log p(x), (N, classes): KL(p(x) || p(x')) is ascended, in full
            precision at first; None: the cross-entropy.
    """
    current, taken = start.detach().clone(), torch.zeros_like(labels)
    left, active = torch.full_like(labels, tau), torch.ones_like(labels, dtype=torch.bool)
    for number in range(inner.steps):
        rows = _active_rows(active)
        if not len(rows):
            break
        points = current[rows].requires_grad_()
        precise = clean_log_probabilities is not None and number == 0
        with torch.enable_grad(), full_precision(images) if precise else nullcontext():
            logits = model(points)
            if clean_log_probabilities is None:
                losses = F.cross_entropy(logits, labels[rows], reduction="none")
            else:
                losses = kl_divergence(clean_log_probabilities[rows], logits)
            (direction,) = torch.autograd.grad(losses.sum(), points)
        points = points.detach()
        wrong = logits.argmax(1) != labels[rows]
        goes_on = active[rows] & ~(wrong & (left[rows] == 0))
        pushed = points if noise is None else points + noise[number, rows]
        moved = step_up(pushed, direction, images[rows], inner.threat, inner.step_size)
        current[rows] = torch.where(goes_on[:, None, None, None], moved, points)
        left[rows] -= (wrong & goes_on).long()
        active[rows] = goes_on
        taken[rows] += goes_on.long()
    return current, taken


def _active_rows(active: Tensor) -> Tensor:
    """The images that go on, filled up with others to a multiple of an eighth of the batch."""
    unit = -(-len(active) // SIZES)
    size = -(-int(active.sum()) // unit) * unit
    return active.long().argsort(descending=True, stable=True)[:size]


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    if len(knobs.grows_at) > step.inner.steps:
        raise BadParams(
            f"params.yaml: fat.grows_at: has {len(knobs.grows_at)} shares, by which tau grows "
            f"beyond the {step.inner.steps} steps of train.attack"
        )
    if knobs.objective == "at":
        start, clean = step.random_start(images), None
    else:
        # Clipped, unlike that of TRADES, since the start itself may be the result.
        start = step.gaussian_start(images).clamp(0, 1)
        clean = F.log_softmax(step.eval_logits(images), 1)
    noise = None
    if knobs.noise:
        draws = [step.gaussian_noise(images) for _ in range(step.inner.steps)]
        noise = knobs.noise * torch.stack(draws)
    tau = allowance(step.epoch, step.epochs, knobs.grows_at)
    adversarial, taken = friendly_examples(
        step.frozen, images, labels, start, step.inner, tau, noise, clean
    )
    targets = step.targets(labels)
    if knobs.objective == "at":
        loss = F.cross_entropy(model(adversarial), targets)
        parts = {"cross_entropy": loss.detach()}
    else:
        loss, parts = trades.objective(model(images), model(adversarial), targets, knobs.beta)
    return Loss(loss, parts, samples={"steps": taken.float()})
