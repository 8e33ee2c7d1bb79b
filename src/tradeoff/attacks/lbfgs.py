"""L-BFGS attack (Szegedy et al. 2014, section 4.1).

The box-constrained solver is a projected L-BFGS of our own that works on the whole batch, each
sample with its own memory and line search: scipy's takes one image at a time, so that a GPU would
see batches of one.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.attacks.nearest import Nearest
from tradeoff.attacks.outcome import Adversarial, check_inputs
from tradeoff.core.schema import Positive, PositiveInt, Section
from tradeoff.networks.elementary import sqrt
from tradeoff.networks.losses import likeliest_others

MEMORY = 10  # past steps that approximate the curvature
SUFFICIENT_DECREASE = 1e-4  # of the slope: Armijo's condition
SHORTENINGS = 8  # of a step, by half, before a sample counts as converged
STALLED = 1e-5  # relative decrease of the objective below which a sample is converged


class Knobs(Section):
    targets: PositiveInt | None  # how many other classes, the likeliest ones; null: all
    steps: PositiveInt  # of L-BFGS at most, for each constant
    binary_search_steps: PositiveInt  # how many constants are tried
    initial_constant: Positive  # the first c


@torch.no_grad()
def lbfgs(
    model: nn.Module, images: Tensor, labels: Tensor, knobs: Knobs, *_unused: object
) -> Adversarial:
    """Minimise c ||r||_2^2 + cross-entropy(x + r, target) in [0, 1], for the largest c that fools.

    The paper writes c |r|. The square is smooth where the search starts, r = 0, and both trace
    the same trade-off. c is searched by decades until bracketed, then halved in its logarithm.

    Returns:
        The images nearest in l2 that fool the model, whatever their wrong class, and the forward
        passes, summed over the targets.
    """
    check_inputs(model, images, labels)
    nearest = Nearest(images, labels, "l2")
    logits = model(images)
    everyone = torch.arange(len(images), device=images.device)
    attacked = everyone[~nearest.update(everyone, images, logits)]
    likely = likeliest_others(logits, labels, knobs.targets)
    rows, wanted = attacked.repeat_interleave(likely.shape[1]), likely[attacked].flatten()
    constants = images.new_full((len(rows),), knobs.initial_constant)
    works, fails = torch.zeros_like(constants), torch.full_like(constants, torch.inf)
    for _ in range(knobs.binary_search_steps):
        if len(rows) == 0:
            break
        problem = _Problem(model, nearest, rows, wanted, constants)
        fooled = minimise_in_box(problem, images[rows].flatten(1), knobs.steps)
        works, fails = constants.where(fooled, works), fails.where(fooled, constants)
        middle = sqrt(works * fails)
        middle = (constants * 10).where(fails.isinf(), middle)
        constants = (constants / 10).where(works == 0, middle)
    return nearest.adversarial()


class _Problem:
    """The objective of every (sample, target); each evaluation is shown to `nearest`."""

    def __init__(
        self, model: nn.Module, nearest: Nearest, rows: Tensor, targets: Tensor, constants: Tensor
    ) -> None:
        self.model, self.nearest = model, nearest
        self.rows, self.targets, self.constants = rows, targets, constants

    def evaluate(self, places: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Value (M,), gradient (M, D) and whether it fools (M,) at `points` (M, D)."""
        rows = self.rows[places]
        clean = self.nearest.clean[rows]
        candidates = points.view_as(clean).detach().requires_grad_()
        with torch.enable_grad():
            logits = self.model(candidates)
            squared = (candidates - clean).square().flatten(1).sum(1)
            loss = F.cross_entropy(logits, self.targets[places], reduction="none")
            value = self.constants[places] * squared + loss
            gradient = torch.autograd.grad(value.sum(), candidates)[0]
        fooled = self.nearest.update(rows, candidates.detach(), logits.detach())
        return value.detach(), gradient.flatten(1), fooled


class _State(NamedTuple):
    """The problems still open, one per row: where it is among all, its point (M, D), its
    objective's value (M,) and gradient (M, D)."""

    places: Tensor
    point: Tensor
    value: Tensor
    gradient: Tensor

    def select(self, kept: Tensor) -> "_State":
        return _State(*(part[kept] for part in self))


def minimise_in_box(problem: _Problem, start: Tensor, steps: int) -> Tensor:
    """Projected L-BFGS from `start` (M, D) in [0, 1].

    Bertsekas' (1982) projected quasi-Newton method: a component at a bound, whose gradient points
    outward, is held; the others take the L-BFGS direction, and the step is projected.

    Returns:
        Whether the last points fool the model, (M,) bool.
    """
    places = torch.arange(len(start), device=start.device)
    value, gradient, fooled = problem.evaluate(places, start)
    state = _State(places, start, value, gradient)
    moves = start.new_zeros(0, *start.shape)
    changes = moves
    for _ in range(steps):
        held = ((state.point <= 0) & (state.gradient > 0)) | (
            (state.point >= 1) & (state.gradient < 0)
        )
        direction = _direction(state.gradient, ~held, moves, changes)
        reached, fools, moved = _line_search(problem, state, direction)
        fooled[state.places] = fools.where(moved, fooled[state.places])
        progress = state.value - reached.value
        open_ = moved & (progress > STALLED * reached.value.abs().clamp_min(1e-12))
        if not open_.any():
            break
        move, change = reached.point - state.point, reached.gradient - state.gradient
        moves = torch.cat([moves, move[None]])[-MEMORY:, open_]
        changes = torch.cat([changes, change[None]])[-MEMORY:, open_]
        state = reached.select(open_)
    return fooled


def _direction(gradient: Tensor, free: Tensor, moves: Tensor, changes: Tensor) -> Tensor:
    """The two-loop recursion (Nocedal 1980) among the free components, (M, D).

    Pairs without positive curvature are left out, for each sample by itself.
    """
    steepest = gradient * free
    if len(moves) == 0:
        # Nothing is known of the curvature: move by a tenth of the range at most.
        return -0.1 * steepest / steepest.abs().amax(1, keepdim=True).clamp_min(1e-12)
    moves, changes = moves * free, changes * free
    curvature = (moves * changes).sum(2, keepdim=True)
    squared = changes.square().sum(2, keepdim=True)
    curved = curvature > 1e-8 * squared
    rho = curvature.reciprocal().where(curved, 0)
    direction, weights = steepest, []
    for move, change, r in zip(moves.flip(0), changes.flip(0), rho.flip(0), strict=True):
        weights.append(r * (move * direction).sum(1, keepdim=True))
        direction = direction - weights[-1] * change
    scale = torch.ones_like(curvature[0])
    for c, s, positive in zip(curvature, squared, curved, strict=True):
        scale = (c / s).where(positive, scale)  # the last pair that has curvature
    direction = direction * scale
    for move, change, r in zip(moves, changes, rho, strict=True):
        back = r * (change * direction).sum(1, keepdim=True)
        direction = direction + (weights.pop() - back) * move
    descends = (direction * steepest).sum(1, keepdim=True) > 0
    return -direction.where(descends, steepest) * free


def _line_search(
    problem: _Problem, state: _State, direction: Tensor
) -> tuple[_State, Tensor, Tensor]:
    """Halve each sample's step until the objective falls enough along the projected path.

    Returns:
        The state reached, whether the points reached fool, and for which samples one was reached.
    """
    point, value, gradient = state.point.clone(), state.value.clone(), state.gradient.clone()
    moved = torch.zeros_like(state.places, dtype=torch.bool)
    verdict = moved.clone()
    trying = torch.arange(len(state.places), device=moved.device)
    length = 1.0
    for _ in range(SHORTENINGS):
        trial = (state.point[trying] + length * direction[trying]).clamp(0, 1)
        trial_value, trial_gradient, fools = problem.evaluate(state.places[trying], trial)
        slope = (state.gradient[trying] * (trial - state.point[trying])).sum(1)
        enough = (trial_value <= state.value[trying] + SUFFICIENT_DECREASE * slope) & (slope < 0)
        done = trying[enough]
        point[done], value[done] = trial[enough], trial_value[enough]
        gradient[done], verdict[done], moved[done] = trial_gradient[enough], fools[enough], True
        trying = trying[~enough]
        if len(trying) == 0:
            break
        length /= 2
    return _State(state.places, point, value, gradient), verdict, moved
