"""Bounds with two lines of their own slopes at each ReLU: CROWN (Zhang et al. 2018), backwards.

Above an unstable ReLU is the line of the outer polytope; below it is 0 or the identity, whichever
leaves the smaller area. Which of the two a functional meets depends on its sign at the unit, so an
upper bound has rows of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from tradeoff.certificates.bounds.graph import Graph, Maximum, Rectifier
from tradeoff.certificates.bounds.relaxation import Ball, relax
from tradeoff.certificates.bounds.rows import Dense


@dataclass(frozen=True)
class Lines:
    """What is above and below one ReLU, all (N, *shape): `slope` p + `offset`, and `below` p."""

    slope: Tensor
    offset: Tensor
    below: Tensor


@dataclass(frozen=True)
class Crown:
    """A network with such lines at every ReLU.

    Attributes:
        lines: by the place of each ReLU.
        centre: logits between their bounds, (N, classes).
    """

    graph: Graph
    ball: Ball
    lines: Mapping[int, Lines]
    centre: Tensor

    def extremes(self, functionals: Tensor) -> tuple[Tensor, Tensor]:
        """Bounds of functionals (N, M, classes) of the logits over the ball, (N, M) each."""
        return -self.upper(-functionals), self.upper(functionals)

    def upper(self, functionals: Tensor) -> Tensor:
        """The upper ones, by one pass backwards."""
        place = len(self.graph.nodes) - 1
        arriving = {place: Dense(functionals)}
        total: Tensor | float = 0.0
        while (place := max(arriving)) > 0:
            rows, node = arriving.pop(place), self.graph.nodes[place]
            if isinstance(node.layer, Rectifier):
                lines, values = self.lines[place], rows.values
                total = total + _dot(values.clamp_min(0), lines.offset)
                rows = Dense(values * lines.slope[:, None].where(values > 0, lines.below[:, None]))
            else:
                assert not isinstance(node.layer, Maximum)
                shape = self.graph.nodes[node.inputs[0]].shape
                constant = node.layer(rows.values.new_zeros(1, *shape))
                total = total + rows.values.flatten(2) @ constant.flatten()
                rows = rows.through(node.layer, shape)
            for source in node.inputs:
                known = arriving.get(source)
                arriving[source] = rows if known is None else rows.plus(known)
        rows = arriving[0]
        return total + _dot(rows.values, self.ball.centre) + self.ball.width(rows)


def _dot(rows: Tensor, point: Tensor) -> Tensor:
    """Functionals (N, M, *shape) at a point of each image (N, *shape), (N, M)."""
    return (rows.flatten(2) @ point.flatten(1)[:, :, None]).squeeze(2)


def adaptive_lines(lower: Tensor, upper: Tensor) -> Lines:
    """The lines around a ReLU whose input is between two bounds."""
    found = relax(lower, upper)
    identity = (upper > -lower).to(upper.dtype)
    below = found.slope.where(~found.unstable, identity)
    return Lines(found.slope, 2 * found.offset, below)
