"""What may reach a network's ReLUs, and what they may then do: the outer polytope.

Wong & Kolter (2018) bound relu(p) for l <= p <= u from below and above by lines of one slope,

    D p <= relu(p) <= D (p - l),    D = u / (u - l) where l < 0 < u, else 1 or 0

so that relu(p) = D p + h + e, |e| <= h, with h = -D l / 2 (0 where the unit is stable). Then every
value of the relaxed network is the affine function of the image with h added at each ReLU, give or
take sum |weight of e| h over all ReLUs, and the image's own part. That is their dual bound:
equations 7 and 8 of the paper with each pair of ReLU terms gathered around its middle.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tradeoff.certificates.bounds.graph import Graph, Maximum, NoBounds, Rectifier, sum_of
from tradeoff.certificates.bounds.rows import Dense, Rows
from tradeoff.networks.threat import BallNorm, per_sample


@dataclass(frozen=True)
class Ball:
    """The allowed inputs: those with ||(x' - centre) / radius|| <= 1.

    Attributes:
        centre, radius: (N, C, H, W); the radius is one for each pixel.
    """

    centre: Tensor
    radius: Tensor
    norm: BallNorm

    def width(self, rows: Rows) -> Tensor:
        """How far functionals of the input go from their value at the centre, (N, functionals)."""
        if self.norm == "linf":
            return rows.weighted(self.radius)
        return root(rows.weighted(self.radius.square(), 2))


def ball(
    images: Tensor, epsilon: float | Tensor, norm: BallNorm, *, clipped: bool, graph: Graph
) -> Ball:
    """The ball around images (N, C, H, W), after the graph's preprocessing.

    Args:
        epsilon: one radius, or one for each image (N,).
        clipped: leave out what is beyond [0, 1]; of an l2 ball nothing is left out.
    """
    radius = epsilon if isinstance(epsilon, float) else per_sample(epsilon, images)
    low, high = images - radius, images + radius
    if clipped and norm == "linf":
        low, high = low.clamp_min(0), high.clamp_max(1)
    low, high = graph.preprocess(low), graph.preprocess(high)
    if norm == "linf":
        return Ball((low + high) / 2, (high - low) / 2, norm)
    return Ball(graph.preprocess(images), (high - low) / 2, norm)


class Relaxation(NamedTuple):
    """Of one ReLU, all (N, *shape): bounds of its input, D, and h of this module's head."""

    lower: Tensor
    upper: Tensor
    slope: Tensor
    offset: Tensor

    @property
    def unstable(self) -> Tensor:
        """Whether the input can have either sign."""
        return (self.lower < 0) & (self.upper > 0)


Relaxations = dict[int, Relaxation]


def relax(lower: Tensor, upper: Tensor) -> Relaxation:
    """The lines around a ReLU whose input is between two bounds."""
    unstable = (lower < 0) & (upper > 0)
    slope = upper / (upper - lower).where(unstable, 1)  # not 0 / 0, whose gradient is no number
    slope = slope.where(unstable, (lower >= 0).to(lower.dtype))
    return Relaxation(lower, upper, slope, (-slope * lower / 2).where(unstable, 0))


@dataclass(frozen=True)
class Polytope:
    """A network with every ReLU relaxed.

    Attributes:
        relaxations: by the place of each ReLU.
        centre: the logits at the ball's centre, (N, classes).
    """

    graph: Graph
    ball: Ball
    relaxations: Relaxations
    centre: Tensor

    def extremes(self, functionals: Tensor) -> tuple[Tensor, Tensor]:
        """The least and the largest value of linear functionals of the logits over the ball.

        Args:
            functionals: (N, M, classes); the bounds are (N, M).
        """
        middle = (functionals @ self.centre[:, :, None]).squeeze(2)
        last = len(self.graph.nodes) - 1
        width = spread(self.graph, last, Dense(functionals), self.relaxations, self.ball)
        return middle - width, middle + width


Bounds = Callable[[int, Tensor, Relaxations], tuple[Tensor, Tensor]]


def polytope(graph: Graph, ball: Ball, bounds: Bounds) -> Polytope:
    """Relax one ReLU after the other.

    Args:
        bounds: of the values at a place, given the values there at the centre and the relaxations
            before it.
    """
    values, relaxations = [ball.centre], dict[int, Relaxation]()
    for place, node in enumerate(graph.nodes[1:], 1):
        centre = sum_of([values[source] for source in node.inputs])
        if isinstance(node.layer, Maximum):
            raise NoBounds(f"the dual network has no bounds of max-pooling ({node.layer.name})")
        if isinstance(node.layer, Rectifier):
            found = relax(*bounds(node.inputs[0], centre, relaxations))
            relaxations[place] = found
            values.append(found.slope * centre + found.offset)
        else:
            values.append(node.layer(centre))
    return Polytope(graph, ball, relaxations, values[-1])


def spread(graph: Graph, place: int, rows: Rows, relaxations: Relaxations, ball: Ball) -> Tensor:
    """How far functionals of the values at a place go from their value at the centre.

    They are carried back through the graph once: (N, functionals).
    """
    arriving = {place: rows}
    total: Tensor | float = 0.0
    while (place := max(arriving)) > 0:
        rows, node = arriving.pop(place), graph.nodes[place]
        if isinstance(node.layer, Rectifier):
            total = total + rows.weighted(relaxations[place].offset)
            rows = rows.times(relaxations[place].slope)
        else:
            assert not isinstance(node.layer, Maximum)
            rows = rows.through(node.layer, graph.nodes[node.inputs[0]].shape)
        for source in node.inputs:
            known = arriving.get(source)
            arriving[source] = rows if known is None else rows.plus(known)
    return total + ball.width(arriving[0])


def root(squares: Tensor) -> Tensor:
    """The square root, whose gradient at 0 is 0."""
    return squares.clamp_min(torch.finfo(squares.dtype).tiny).sqrt()
