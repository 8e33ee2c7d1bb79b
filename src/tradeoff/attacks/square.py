"""Square Attack (Andriushchenko et al. 2020): random search over square-shaped changes.

It sees logits only, no gradients: a query attack. A sample's squares come from its own key, so
its queries are the same in every batch.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tradeoff.attacks.outcome import Adversarial, check_inputs, verdict
from tradeoff.core.schema import PositiveInt, Section
from tradeoff.networks.elementary import sqrt
from tradeoff.networks.randomness import sample_keys, uniform
from tradeoff.networks.threat import Threat, steepest

USES_GRADIENTS = False
P_INIT = 0.8  # the share of pixels in the first squares
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of p, for a budget of 10000
DRAWN_TOGETHER = 64  # proposals whose random numbers are hashed at once
TINY = 1e-12


class Knobs(Section):
    """The budget of Square, in queries of each restart: one for the start, the others for
    proposals. A proposal that changes nothing is a query without a forward pass.
    """

    queries: PositiveInt
    restarts: PositiveInt
    rescale_schedule: bool  # stretch the schedule of p, made for 10000 queries, to `queries`


@torch.no_grad()
def square(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    knobs: Knobs,
    threat: Threat,
    keys: Tensor,
    *,
    batch_size: int = 512,
) -> Adversarial:
    """Minimise the margin by changing one square at a time (algorithm 1, with 2 or 3).

    Args:
        batch_size: the most images that go through the model at once.

    Returns:
        The image of lowest margin, and the queries until the sample was fooled or all of them;
        the clean image is the first query.

    Raises:
        ValueError: unsuitable inputs (`check_inputs`).
    """
    check_inputs(model, images, labels)
    best, queries = images.clone(), torch.ones_like(labels)
    run = _Run(threat, images.shape[1:], knobs)
    for batch in torch.arange(len(images), device=images.device).split(batch_size):
        rows = batch[~verdict(model(images[batch]), labels[batch]).beyond_rounding]
        lowest = torch.full_like(images[:, 0, 0, 0], torch.inf)
        for restart in range(knobs.restarts):
            if len(rows) == 0:
                break
            run_keys = sample_keys(keys[rows], restart)
            result = _search(model, images[rows], labels[rows], run_keys, run)
            better = result.fooled | (result.margin < lowest[rows])
            best[rows[better]] = result.images[better]
            lowest[rows] = result.margin.minimum(lowest[rows])
            queries[rows] += result.queries
            rows = rows[~result.fooled]
    return Adversarial(best, queries)


def square_share(proposal: float) -> float:
    """The share p of pixels in a square at a proposal, counted from 0 (section 3.2)."""
    return P_INIT / 2 ** sum(proposal > start for start in HALVINGS)


class _Run(NamedTuple):
    """What all samples of a run share."""

    threat: Threat
    shape: torch.Size
    knobs: Knobs

    def side(self, proposal: int) -> int:
        """The side of the square at a proposal: at least 1 (linf), or odd and at least 3 (l2)."""
        _, height, width = self.shape
        pace = 10000 / self.knobs.queries if self.knobs.rescale_schedule else 1
        share = square_share(proposal * pace)
        side = round((share * height * width) ** 0.5)
        side = max(side, 1) if self.threat.norm == "linf" else max(side, 3) // 2 * 2 + 1
        return min(side, height, width)


class _Result(NamedTuple):
    """What a run found, per sample; `fooled` by more than rounding."""

    images: Tensor
    margin: Tensor
    queries: Tensor
    fooled: Tensor


def _search(model: nn.Module, images: Tensor, labels: Tensor, keys: Tensor, run: _Run) -> _Result:
    """Random search from one start; samples leave as soon as they are fooled."""
    linf = run.threat.norm == "linf"
    numbers = run.shape[0] + (2 if linf else 5)  # signs, positions and orientation
    start, propose = (_stripes, _new_square) if linf else (_tiles, _moved_square)
    best = start(images, keys, run.threat.epsilon)
    _, fooled, lowest = verdict(model(best), labels)
    result = _Result(best.clone(), lowest.clone(), torch.ones_like(labels), fooled.clone())
    rows = torch.arange(len(images), device=images.device)
    draws = images.new_empty(len(images), 0)

    for proposal in range(run.knobs.queries - 1):
        if fooled.any():
            result.images[rows] = best
            result.margin[rows] = lowest
            result.queries[rows] = proposal + 1
            result.fooled[rows] = fooled
            robust = ~fooled
            rows, images, labels = rows[robust], images[robust], labels[robust]
            keys, draws = keys[robust], draws[robust]
            best, lowest = best[robust], lowest[robust]
        if len(rows) == 0:
            return result
        position = proposal % DRAWN_TOGETHER
        if position == 0:
            block = sample_keys(keys, proposal)
            draws = uniform(block, 0, (DRAWN_TOGETHER, numbers)).to(images.dtype)
        drawn, side = draws[:, position], run.side(proposal)
        candidates = propose(images, best, drawn, side, run.threat.epsilon)
        fooled = torch.zeros_like(labels, dtype=torch.bool)
        # A square that changes nothing is a query too, but its answer is known.
        asked = (candidates != best).flatten(1).any(1).nonzero().squeeze(1)
        if len(asked):
            candidates = candidates[asked]
            _, beyond_rounding, margins = verdict(model(candidates), labels[asked])
            fooled[asked] = beyond_rounding
            better = beyond_rounding | (margins < lowest[asked])
            improved = asked[better]
            best[improved], lowest[improved] = candidates[better], margins[better]
    result.images[rows] = best
    result.margin[rows] = lowest
    result.queries[rows] = run.knobs.queries
    result.fooled[rows] = fooled
    return result


def _stripes(images: Tensor, keys: Tensor, epsilon: float) -> Tensor:
    """The start for linf: vertical stripes of +-epsilon, one sign per column and channel."""
    _, channels, _, width = images.shape
    signs = _signs(uniform(keys, 0, (channels, 1, width)).to(images.dtype))
    return (images + epsilon * signs).clamp(0, 1)


def _new_square(images: Tensor, best: Tensor, drawn: Tensor, side: int, epsilon: float) -> Tensor:
    """Algorithm 2 (linf): a square of +-epsilon, one sign per channel, replaces what was there."""
    window = _window(drawn[:, 0], drawn[:, 1], side, images.shape)
    new = images.flatten(2).gather(2, window) + epsilon * _signs(drawn[:, 2:])[:, :, None]
    return best.flatten(2).scatter(2, window, new.clamp(0, 1)).view_as(best)


def _tiles(images: Tensor, keys: Tensor, epsilon: float) -> Tensor:
    """The start for l2: a 5 x 5 grid of patterns, as many as fit, with random signs."""
    samples, channels, height, width = images.shape
    side = max(min(height, width) // 5, 1)
    down, across = max(height - 5 * side, 0) // 2, max(width - 5 * side, 0) // 2
    tiles = ((height - down) // side, (width - across) // side)
    drawn = uniform(keys, 0, (channels + 1, *tiles)).to(images.dtype)
    pattern = _pattern(side).to(images)
    upright = (drawn[:, :1] < 0.5)[:, :, :, None, :, None]
    oriented = torch.where(upright, pattern[:, None, :], pattern.T[:, None, :])
    grid = oriented * _signs(drawn[:, 1:])[:, :, :, None, :, None]
    delta = torch.zeros_like(images)
    grown = grid.reshape(samples, channels, tiles[0] * side, tiles[1] * side)
    delta[:, :, down : down + grown.shape[2], across : across + grown.shape[3]] = grown
    return (images + epsilon * steepest(delta, "l2")).clamp(0, 1)


def _moved_square(images: Tensor, best: Tensor, drawn: Tensor, side: int, epsilon: float) -> Tensor:
    """Algorithm 3 (l2): empty one window, and spend its norm on a pattern in another.

    What clipping to [0, 1] has left unused of epsilon is spent there as well.
    """
    channels = images.shape[1]
    delta = (best - images).flatten(2)
    unused = (epsilon**2 - delta.square().sum((1, 2))).clamp_min(0)[:, None, None] / channels
    target = _window(drawn[:, 0], drawn[:, 1], side, images.shape)
    source = _window(drawn[:, 2], drawn[:, 3], side, images.shape)
    old = delta.gather(2, target)
    delta = delta.scatter(2, target, 0)
    energy = old.square().sum(2, True) + delta.gather(2, source).square().sum(2, True)
    delta = delta.scatter(2, source, 0)

    pattern = _pattern(side).to(images)
    upright = (drawn[:, 4] < 0.5)[:, None, None]
    oriented = torch.where(upright, pattern.flatten(), pattern.T.flatten())
    new = oriented * _signs(drawn[:, 5:])[:, :, None] + old / (_length(old) + TINY)
    new = new * (sqrt(unused + energy) / (_length(new) + TINY))
    delta = delta.scatter(2, target, new).view_as(images)
    return (images + epsilon * steepest(delta, "l2")).clamp(0, 1)


@lru_cache(maxsize=32)
def _pattern(side: int) -> Tensor:
    """Two opposed pyramids, one above the other, of unit norm (equation 2), (side, side)."""
    pattern = torch.cat([_pyramid(side // 2, side), -_pyramid(side - side // 2, side)])
    return pattern / pattern.norm()


def _pyramid(height: int, width: int) -> Tensor:
    """Values that fall from the centre as sums of 1 / k^2, of unit norm, (height, width)."""
    reach = max(height // 2, width // 2) + 1
    down = (torch.arange(height) - height // 2).abs()[:, None]
    across = (torch.arange(width) - width // 2).abs()
    tails = 1 / torch.arange(1.0, reach + 1).square()
    values = tails.flip(0).cumsum(0).flip(0)[down.maximum(across)]
    return values / values.norm().clamp_min(TINY)


def _window(down: Tensor, across: Tensor, side: int, shape: torch.Size) -> Tensor:
    """Indices of a square's pixels in flattened channels, (N, C, side * side).

    Args:
        down, across: where it is, (N,) in [0, 1).
        shape: of the images, (N, C, H, W).
    """
    _, channels, height, width = shape
    lines = torch.arange(side, device=down.device)
    rows = _first_line(down, side, height)[:, None] + lines
    columns = _first_line(across, side, width)[:, None] + lines
    pixels = rows[:, :, None] * width + columns[:, None, :]
    return pixels.flatten(1)[:, None].expand(-1, channels, -1)


def _first_line(position: Tensor, side: int, size: int) -> Tensor:
    return (position * (size - side + 1)).long()


def _signs(drawn: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) -> -1 or 1."""
    return (drawn < 0.5).to(drawn.dtype) * 2 - 1


def _length(windows: Tensor) -> Tensor:
    return windows.norm(dim=2, keepdim=True)
