"""Interval bounds (Gowal et al. 2018): what each layer makes of a box, one after the other.

Cheap, as two passes, and loose: what is known of one unit says nothing of the next.
"""

from dataclasses import dataclass

from torch import Tensor

from tradeoff.certificates.bounds.crown import Crown, adaptive_lines
from tradeoff.certificates.bounds.exact import unit_rows
from tradeoff.certificates.bounds.graph import Graph, Maximum, NoBounds, Rectifier, sum_of
from tradeoff.certificates.bounds.relaxation import Ball, spread
from tradeoff.certificates.bounds.rows import Dense


@dataclass(frozen=True)
class Intervals:
    """The middle and the half width, (N, *shape) each, of the values at every place."""

    graph: Graph
    ball: Ball
    values: list[tuple[Tensor, Tensor]]

    @property
    def centre(self) -> Tensor:
        return self.values[-1][0]

    def extremes(self, functionals: Tensor) -> tuple[Tensor, Tensor]:
        """The least and largest value of functionals (N, M, classes) of the logits, (N, M) each.

        They are joined with the affine layers at the end, which is tighter than each logit's
        interval.
        """
        place, rows = len(self.graph.nodes) - 1, Dense(functionals)
        middle = (functionals @ self.centre[:, :, None]).squeeze(2)
        while not isinstance(layer := self.graph.nodes[place].layer, Rectifier | Maximum):
            if len(inputs := self.graph.nodes[place].inputs) != 1:
                break
            rows, place = rows.through(layer, self.graph.nodes[inputs[0]].shape), inputs[0]
        width = rows.weighted(self.values[place][1])
        return middle - width, middle + width


def intervals(graph: Graph, ball: Ball) -> Intervals:
    """Interval bounds of all values. What is affine in an l2 ball is bounded exactly."""
    found = [(ball.centre, ball.radius)]
    affine = {0}
    for place, node in enumerate(graph.nodes[1:], 1):
        middle = sum_of([found[source][0] for source in node.inputs])
        width = sum_of([found[source][1] for source in node.inputs])
        if isinstance(node.layer, Rectifier | Maximum):
            low, high = node.layer(middle - width), node.layer(middle + width)
            found.append(((low + high) / 2, (high - low) / 2))
            continue
        if ball.norm == "l2" and affine.issuperset(node.inputs):
            affine.add(place)
            width = spread(graph, place, unit_rows(graph, place, middle), {}, ball)
            found.append((node.layer(middle), width.view(-1, *node.shape)))
        else:
            found.append((node.layer(middle), node.layer.absolute(width)))
    return Intervals(graph, ball, found)


def from_intervals(found: Intervals) -> Crown:
    """Lines between interval bounds at every ReLU: CROWN-IBP (Zhang et al. 2020).

    Raises:
        NoBounds: the network has max-pooling, of which there are no lines.
    """
    lines = {}
    for place, node in enumerate(found.graph.nodes):
        if isinstance(node.layer, Maximum):
            raise NoBounds(f"the dual network has no bounds of max-pooling ({node.layer.name})")
        if isinstance(node.layer, Rectifier):
            middle, width = found.values[node.inputs[0]]
            lines[place] = adaptive_lines(middle - width, middle + width)
    return Crown(found.graph, found.ball, lines, found.centre)
