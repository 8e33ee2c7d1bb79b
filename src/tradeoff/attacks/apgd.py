"""Auto-PGD (Croce & Hein 2020, "Reliable evaluation of adversarial robustness", algorithm 1).

Projected ascent with momentum that halves a sample's step size, and goes back to its best point,
whenever progress stalls between two checkpoints. The only free parameter is the number of steps.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.attacks.outcome import (
    Adversarial,
    Verdict,
    batched_logits,
    check_inputs,
    improvements,
    verdict,
)
from tradeoff.core.schema import PositiveInt, Section
from tradeoff.networks.losses import likeliest_others, margin
from tradeoff.networks.randomness import normal, sample_keys, uniform
from tradeoff.networks.threat import Threat, per_sample, project, random_start, steepest

MOMENTUM = 0.75  # share of the new step in each move, alpha in the paper
RHO = 0.75  # a step size is halved if fewer than this share of the steps increased the loss
TINY = 1e-12


class Knobs(Section):
    """The budget of APGD: "dlr" is the loss of equation 6, "targeted_dlr" that of equation 7."""

    loss: Literal["ce", "dlr", "targeted_dlr"]
    targets: PositiveInt  # of the targeted loss: how many other classes, the likeliest ones
    steps: PositiveInt
    restarts: PositiveInt


def apgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    knobs: Knobs,
    threat: Threat,
    keys: Tensor,
    *,
    batch_size: int = 512,
) -> Adversarial:
    """Maximise the loss in the threat: from each restart, for each target if the loss has one.

    All runs of a sample share a batch as far as `batch_size` allows, the likeliest target first; a
    sample that one of them fools leaves with all the others. Which of several fooling images is
    returned may thus depend on `batch_size`; whether there is one does not.

    Args:
        batch_size: the most images, restarts and targets included, that go through the model at
            once.

    Returns:
        The first image that fooled the model, else the one of lowest margin, and the forward
        passes that the sample took in all of its runs.

    Raises:
        ValueError: unsuitable inputs (`check_inputs`), or too few classes for the loss.
    """
    check_inputs(model, images, labels)
    loss = LOSSES[knobs.loss]
    logits = batched_logits(model, images, batch_size)
    if logits.shape[1] < loss.classes:
        raise ValueError(
            f"the {loss.name} needs at least {loss.classes} classes; "
            f"the model has {logits.shape[1]}"
        )
    targeted = knobs.loss == "targeted_dlr"
    aims = likeliest_others(logits, labels, knobs.targets) if targeted else labels[:, None]
    aims = aims.repeat_interleave(knobs.restarts, dim=1)
    method = _Method(model, loss, threat, knobs.steps)
    outcome = _Outcome(images, labels, logits)
    # Column by column: every sample has its most promising run before any has its second.
    attacked = (~outcome.fooled).nonzero().squeeze(1)
    sample = attacked.repeat(aims.shape[1])
    column = torch.arange(aims.shape[1], device=sample.device).repeat_interleave(len(attacked))
    while len(sample):
        now, later = slice(None, batch_size), slice(batch_size, None)
        _climb(method, images, labels, aims, keys, sample[now], column[now], outcome)
        sample, column = sample[later], column[later]
        robust = ~outcome.fooled[sample]
        sample, column = sample[robust], column[robust]
    return Adversarial(outcome.images, outcome.queries)


def checkpoints(steps: int) -> list[int]:
    """The steps after which progress is judged, increasing (section 3.2 of the paper).

    In hundredths of the budget, and in whole numbers so that no rounding shifts a checkpoint.
    """
    position, period, chosen = 22, 22, set()
    while position <= 100:
        chosen.add(math.ceil(position * steps / 100))
        period = max(period - 3, 6)
        position += period
    return sorted(chosen)


def _cross_entropy(logits: Tensor, labels: Tensor, _: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


def _dlr(logits: Tensor, labels: Tensor, _: Tensor) -> Tensor:
    first, _second, third = logits.topk(3, dim=1).values.unbind(1)
    return -margin(logits, labels) / (first - third + TINY)


def _targeted_dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    first, _second, third, fourth = logits.topk(4, dim=1).values.unbind(1)
    label = logits.gather(1, labels[:, None]).squeeze(1)
    target = logits.gather(1, targets[:, None]).squeeze(1)
    return (target - label) / (first - (third + fourth) / 2 + TINY)


class _Loss(NamedTuple):
    """A loss of logits (R, C), labels and targets (R,) per run, and the classes it takes."""

    name: str
    classes: int
    of: Callable[[Tensor, Tensor, Tensor], Tensor]


LOSSES = {
    "ce": _Loss("cross-entropy", 2, _cross_entropy),
    "dlr": _Loss("DLR loss", 3, _dlr),
    "targeted_dlr": _Loss("targeted DLR loss", 4, _targeted_dlr),
}


@dataclass(frozen=True)
class _Method:
    """What all runs of one attack share."""

    model: nn.Module
    loss: _Loss
    threat: Threat
    steps: int

    def evaluate(
        self, candidates: Tensor, labels: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (R, C), losses (R,) and the losses' gradients (R, C, H, W) at the candidates."""
        candidates = candidates.detach().requires_grad_()
        with torch.enable_grad():
            logits = self.model(candidates)
            loss = self.loss.of(logits, labels, targets)
            gradient = torch.autograd.grad(loss.sum(), candidates)[0]
        return logits.detach(), loss.detach(), gradient


class _Climb(NamedTuple):
    """The runs that are still climbing, one per row: images (R, C, H, W), all else (R,)."""

    sample: Tensor  # which sample the run attacks
    images: Tensor
    labels: Tensor
    targets: Tensor
    current: Tensor
    previous: Tensor
    gradient: Tensor
    loss: Tensor
    peak: Tensor  # the point of highest loss
    peak_gradient: Tensor
    peak_loss: Tensor
    closest: Tensor  # the point of lowest margin
    closest_margin: Tensor
    step_size: Tensor
    increases: Tensor  # steps since the last checkpoint that raised the loss
    halved: Tensor  # whether the last checkpoint halved the step size
    checkpoint_loss: Tensor  # peak_loss at the last checkpoint


class _Outcome:
    """The best image of each sample over its runs: the first that fools beyond rounding, else the
    one of lowest margin; of several that are equal the first.
    """

    def __init__(self, images: Tensor, labels: Tensor, logits: Tensor) -> None:
        self.images = images.clone()
        self.fooled = verdict(logits, labels).beyond_rounding
        self.margin = torch.full_like(logits[:, 0], math.inf)
        self.queries = torch.ones_like(labels)

    def take(self, sample: Tensor, candidates: Tensor, margins: Tensor) -> None:
        """Take over the candidates (R, C, H, W) that have the lowest margin of their sample."""
        taken, self.margin = improvements(sample, margins, self.margin)
        self.images[sample[taken]] = candidates[taken]

    def take_fooling(self, sample: Tensor, candidates: Tensor, margins: Tensor) -> None:
        """As `take`, for candidates that fool the model: they replace any that do not."""
        self.fooled[sample] = True
        self.margin[sample] = math.inf
        self.take(sample, candidates, margins)

    def count(self, sample: Tensor, queries: int) -> None:
        """Add the forward passes of runs that have ended."""
        self.queries.index_add_(0, sample, torch.full_like(sample, queries))


def _climb(
    method: _Method,
    images: Tensor,
    labels: Tensor,
    targets: Tensor,
    keys: Tensor,
    sample: Tensor,
    column: Tensor,
    outcome: _Outcome,
) -> None:
    """Algorithm 1 for a batch of runs (R,); what they find goes to `outcome`."""
    images, labels, targets = images[sample], labels[sample], targets[sample, column]
    start = _starts(images, keys[sample], column, method.threat)
    logits, loss, gradient = method.evaluate(start, labels, targets)
    judged = verdict(logits, labels)
    state = _Climb(
        sample, images, labels, targets,
        current=start, previous=start, gradient=gradient, loss=loss,
        peak=start, peak_gradient=gradient, peak_loss=loss,
        closest=start, closest_margin=judged.margin,
        step_size=torch.full_like(loss, 2 * method.threat.epsilon),
        increases=torch.zeros_like(labels), halved=torch.ones_like(labels, dtype=torch.bool),
        checkpoint_loss=loss,
    )  # fmt: skip
    state = _retire(state, judged, outcome, queries=1)
    checks, last_check = set(checkpoints(method.steps)), 0
    for step in range(1, method.steps + 1):
        if len(state.sample) == 0:
            return
        moved = _move(state, method.threat, MOMENTUM if step > 1 else 1.0)
        logits, loss, gradient = method.evaluate(moved, state.labels, state.targets)
        judged = verdict(logits, state.labels)
        state = _remember(state, moved, judged.margin, loss, gradient)
        state = _retire(state, judged, outcome, queries=step + 1)
        if step in checks:
            state = _judge(state, RHO * (step - last_check))
            last_check = step
    outcome.take(state.sample, state.closest, state.closest_margin)
    outcome.count(state.sample, method.steps + 1)


def _starts(images: Tensor, keys: Tensor, column: Tensor, threat: Threat) -> Tensor:
    """Random starts (R, C, H, W), in the ball (linf) or on its sphere (l2).

    Each depends on the sample's key and on which of its runs this is, `column` (R,).
    """
    noise = torch.empty_like(images)
    for number in column.unique().tolist():
        rows = column == number
        run_keys, shape = sample_keys(keys[rows], number), tuple(images.shape[1:])
        drawn = normal(run_keys, 0, shape) if threat.norm == "l2" else uniform(run_keys, 0, shape)
        noise[rows] = drawn.to(images.dtype)
    if threat.norm == "linf":
        noise = 2 * noise - 1
    return random_start(images, noise, torch.ones_like(noise[:, 0, 0, 0]), threat)


def _move(state: _Climb, threat: Threat, momentum: float) -> Tensor:
    """The next iterate (equation 1): a projected step, mixed with the move before it."""
    step = per_sample(state.step_size, state.current) * steepest(state.gradient, threat.norm)
    ahead = project(state.current + step, state.images, threat)
    inertia = state.current - state.previous
    mixed = state.current + momentum * (ahead - state.current) + (1 - momentum) * inertia
    return project(mixed, state.images, threat)


def _remember(
    state: _Climb, moved: Tensor, margins: Tensor, loss: Tensor, gradient: Tensor
) -> _Climb:
    """The state after a move, with the points of highest loss and of lowest margin so far."""
    higher, closer = loss > state.peak_loss, margins < state.closest_margin
    higher_images, closer_images = per_sample(higher, moved), per_sample(closer, moved)
    return state._replace(
        current=moved,
        previous=state.current,
        gradient=gradient,
        loss=loss,
        peak=moved.where(higher_images, state.peak),
        peak_gradient=gradient.where(higher_images, state.peak_gradient),
        peak_loss=loss.where(higher, state.peak_loss),
        closest=moved.where(closer_images, state.closest),
        closest_margin=margins.where(closer, state.closest_margin),
        increases=state.increases + (loss > state.loss),
    )


def _retire(state: _Climb, judged: Verdict, outcome: _Outcome, queries: int) -> _Climb:
    """Hand in the runs whose current point fools the model; keep those of unfooled samples."""
    fooled = judged.beyond_rounding
    if not fooled.any():
        return state
    outcome.take_fooling(state.sample[fooled], state.current[fooled], judged.margin[fooled])
    ended = outcome.fooled[state.sample]
    outcome.count(state.sample[ended], queries)
    return _Climb(*(field[~ended] for field in state))


def _judge(state: _Climb, enough: float) -> _Climb:
    """A checkpoint: halve the step and restart from the peak if condition 1 or 2 holds."""
    rarely = state.increases < enough
    stuck = ~state.halved & (state.checkpoint_loss >= state.peak_loss)
    halve = rarely | stuck
    back = per_sample(halve, state.current)
    return state._replace(
        current=state.peak.where(back, state.current),
        gradient=state.peak_gradient.where(back, state.gradient),
        loss=state.peak_loss.where(halve, state.loss),
        step_size=state.step_size.where(~halve, state.step_size / 2),
        increases=torch.zeros_like(state.increases),
        halved=halve,
        checkpoint_loss=state.peak_loss,
    )
