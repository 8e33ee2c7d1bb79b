"""Carlini & Wagner's L2 attack (2017, section VI-A)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tradeoff.attacks.nearest import Nearest
from tradeoff.attacks.outcome import Adversarial, check_inputs
from tradeoff.core.schema import NonNegative, Positive, PositiveInt, Section
from tradeoff.networks.elementary import sqrt
from tradeoff.networks.losses import margin

# tanh reaches 0 and 1 only at infinity: the start is a little inside.
INSIDE = 0.999999
LARGEST_CONSTANT = 1e10
# A minimisation needs this many steps without progress to be given up: with fewer, Adam's swings
# around the boundary pass for the end, and distances grow by some percent.
LEAST_PATIENCE = 50


class Knobs(Section):
    steps: PositiveInt  # of Adam, for each constant
    binary_search_steps: PositiveInt  # how many constants are tried
    initial_constant: Positive  # the first c; ten times as much while nothing fools the model
    learning_rate: Positive  # of Adam, in tanh space
    confidence: NonNegative  # kappa, by how many logits another class must win


@torch.no_grad()
def carlini_wagner(
    model: nn.Module, images: Tensor, labels: Tensor, knobs: Knobs, *_unused: object
) -> Adversarial:
    """Minimise ||x' - x||_2^2 + c max(margin + confidence, 0), and search for the smallest c.

    A sample leaves a minimisation whose loss has not fallen in steps / 10, or in `LEAST_PATIENCE`
    steps if that is more.

    Returns:
        The nearest images that fool the model with the confidence, and the forward passes.
    """
    check_inputs(model, images, labels)
    nearest = Nearest(images, labels, "l2")
    rows = torch.arange(len(images), device=images.device)
    rows = rows[~nearest.update(rows, images, model(images))]
    constants = images.new_full((len(rows),), knobs.initial_constant)
    lower, upper = torch.zeros_like(constants), torch.full_like(constants, torch.inf)
    for _ in range(knobs.binary_search_steps):
        if len(rows) == 0:
            break
        fooled = _minimise(model, nearest, rows, constants, knobs)
        upper, lower = constants.where(fooled, upper), lower.where(fooled, constants)
        middle = (lower + upper) / 2
        constants = middle.where(upper.isfinite(), constants * 10).clamp_max(LARGEST_CONSTANT)
    return nearest.adversarial()


class _State(NamedTuple):
    """The samples still in a minimisation, one per row."""

    places: Tensor  # where the sample is among `rows`
    variable: Tensor  # its image in tanh space
    first: Tensor  # Adam's moments
    second: Tensor
    lowest: Tensor  # the lowest loss so far
    checked: Tensor  # the lowest loss when progress was last checked


def _minimise(
    model: nn.Module, nearest: Nearest, rows: Tensor, constants: Tensor, knobs: Knobs
) -> Tensor:
    """Run Adam from the clean images of the samples `rows` (M,).

    Returns:
        Which of them were fooled on the way, (M,) bool.
    """
    patience = max(math.ceil(knobs.steps / 10), LEAST_PATIENCE)
    fooled = torch.zeros_like(rows, dtype=torch.bool)
    start = torch.atanh((2 * nearest.clean[rows] - 1) * INSIDE)
    state = _State(
        places=torch.arange(len(rows), device=rows.device),
        variable=start,
        first=torch.zeros_like(start),
        second=torch.zeros_like(start),
        lowest=torch.full_like(constants, torch.inf),
        checked=torch.full_like(constants, torch.inf),
    )
    for step in range(1, knobs.steps + 1):
        samples = rows[state.places]
        candidates, logits, loss, gradient = _objective(
            model,
            state.variable,
            nearest.clean[samples],
            nearest.labels[samples],
            constants[state.places],
            knobs.confidence,
        )
        fooled[state.places] |= nearest.update(samples, candidates, logits, knobs.confidence)
        state = _adam(state, gradient, step, knobs.learning_rate)
        state = state._replace(lowest=state.lowest.minimum(loss))
        if step % patience == 0:
            improving = state.lowest < 0.9999 * state.checked
            state = state._replace(checked=state.lowest)
            state = _State(*(part[improving] for part in state))
            if len(state.places) == 0:
                break
    return fooled


def _objective(
    model: nn.Module,
    variable: Tensor,
    clean: Tensor,
    labels: Tensor,
    constants: Tensor,
    confidence: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The images at `variable` in tanh space, their logits, losses (M,) and loss gradients."""
    variable = variable.detach().requires_grad_()
    with torch.enable_grad():
        candidates = (torch.tanh(variable) + 1) / 2
        logits = model(candidates)
        hinge = (margin(logits, labels) + confidence).clamp_min(0)
        loss = (candidates - clean).square().flatten(1).sum(1) + constants * hinge
        gradient = torch.autograd.grad(loss.sum(), variable)[0]
    return candidates.detach(), logits.detach(), loss.detach(), gradient


def _adam(state: _State, gradient: Tensor, step: int, learning_rate: float) -> _State:
    """One step of Adam (Kingma & Ba 2015) with its usual constants, on each sample by itself."""
    first = 0.9 * state.first + 0.1 * gradient
    second = 0.999 * state.second + 0.001 * gradient.square()
    scale = sqrt(second / (1 - 0.999**step)) + 1e-8
    variable = state.variable - learning_rate * first / (1 - 0.9**step) / scale
    return state._replace(variable=variable, first=first, second=second)
