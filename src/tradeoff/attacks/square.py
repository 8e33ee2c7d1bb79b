"""Square Attack (Andriushchenko et al. 2020): random search over square-shaped changes.

It sees logits only, no gradients: a query attack. A sample's squares come from its own key, so
its queries are the same in every batch.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tradeoff.attacks.outcome import Attempt, check_inputs, verdict
from tradeoff.networks.elementary import sqrt
from tradeoff.networks.randomness import sample_keys, uniform
from tradeoff.networks.threat import Threat, steepest

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of p, for a budget of 10000
DRAWN_TOGETHER = 64  # proposals whose random numbers are hashed at once
TINY = 1e-12


@torch.no_grad()
def square(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    *,
    keys: Tensor,
    queries: int = 5000,
    p_init: float = 0.8,
    restarts: int = 1,
    rescale_schedule: bool = False,
    batch_size: int = 512,
) -> Attempt:
    """Minimise the margin by changing one square at a time (algorithm 1, with 2 or 3).

    Args:
        queries: per restart: one for the start, the others for proposals; a proposal that
            changes nothing is a query without a forward pass.
        p_init: the share of pixels in the first squares.
        rescale_schedule: stretch the schedule of p, made for 10000 queries, to `queries`;
            AutoAttack does not.
        batch_size: the most images that go through the model at once.

    Returns:
        The image of lowest margin and the queries until the sample was fooled, or all of them;
        the clean image is the first query.

    Raises:
        ValueError: unsuitable inputs (`check_inputs`).
    """
    check_inputs(model, images, labels)
    found, counts = images.clone(), torch.ones_like(labels)
    for batch in torch.arange(len(images), device=images.device).split(batch_size):
        left = batch[~verdict(model(images[batch]), labels[batch]).surely]
        lowest = torch.full_like(images[:, 0, 0, 0], torch.inf)
        for restart in range(restarts):
            if len(left) == 0:
                break
            run_keys = sample_keys(keys[left], restart)
            step = 1 if not rescale_schedule else 10000 / queries
            run = _Run(threat, images.shape[1:], queries, p_init, step)
            result = _search(model, images[left], labels[left], run_keys, run)
            better = result.fooled | (result.margin < lowest[left])
            found[left[better]] = result.images[better]
            lowest[left] = result.margin.minimum(lowest[left])
            counts[left] += result.queries
            left = left[~result.fooled]
    return Attempt(found, counts)


def square_share(proposal: float, p_init: float) -> float:
    """The share p of pixels in a square at a proposal, counted from 0 (section 3.2)."""
    return p_init / 2 ** sum(proposal > start for start in HALVINGS)


class _Run(NamedTuple):
    """What all samples of a run share; `step` is how fast it walks through the schedule of p."""

    threat: Threat
    shape: torch.Size
    queries: int
    p_init: float
    step: float

    def side(self, proposal: int) -> int:
        """The side of the square at a proposal: at least 1 (linf), or odd and at least 3 (l2)."""
        _, height, width = self.shape
        share = square_share(proposal * self.step, self.p_init)
        side = round((share * height * width) ** 0.5)
        side = max(side, 1) if self.threat.norm == "linf" else max(side, 3) // 2 * 2 + 1
        return min(side, height, width)


class _Result(NamedTuple):
    """What a run found, per sample; `fooled` surely."""

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

    for proposal in range(run.queries - 1):
        if fooled.any():
            result.images[rows] = best
            result.margin[rows] = lowest
            result.queries[rows] = proposal + 1
            result.fooled[rows] = fooled
            left = ~fooled
            rows, images, labels, keys = rows[left], images[left], labels[left], keys[left]
            best, lowest, draws = best[left], lowest[left], draws[left]
        if len(rows) == 0:
            return result
        position = proposal % DRAWN_TOGETHER
        if position == 0:
            block = sample_keys(keys, proposal)
            draws = uniform(block, 0, (DRAWN_TOGETHER, numbers)).to(images.dtype)
        drawn, side = draws[:, position], run.side(proposal)
        candidates = propose(images, best, drawn, side, run.threat.epsilon)
        fooled = torch.zeros_like(labels, dtype=torch.bool)
        # A square of what is there already is a query too, but its answer is known.
        asked = (candidates != best).flatten(1).any(1).nonzero().squeeze(1)
        if len(asked):
            candidates = candidates[asked]
            _, surely, margins = verdict(model(candidates), labels[asked])
            fooled[asked] = surely
            better = surely | (margins < lowest[asked])
            taken = asked[better]
            best[taken], lowest[taken] = candidates[better], margins[better]
    result.images[rows] = best
    result.margin[rows] = lowest
    result.queries[rows] = run.queries
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
