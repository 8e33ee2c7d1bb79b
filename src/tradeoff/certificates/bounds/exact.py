"""Exact bounds of the dual network: every unit's functional is carried back (backward mode)."""

from torch import Tensor

from tradeoff.certificates.bounds.graph import Convolution, Graph, Identity, Rectifier, Scaling
from tradeoff.certificates.bounds.relaxation import Ball, Polytope, Relaxations, polytope, spread
from tradeoff.certificates.bounds.rows import Rows, units


def exact(graph: Graph, ball: Ball) -> Polytope:
    """The outer polytope of Wong & Kolter (2018, algorithm 1)."""

    def bounds(place: int, centre: Tensor, relaxations: Relaxations) -> tuple[Tensor, Tensor]:
        rows = unit_rows(graph, place, centre)
        width = spread(graph, place, rows, relaxations, ball).view_as(centre)
        return centre - width, centre + width

    return polytope(graph, ball, bounds)


def unit_rows(graph: Graph, place: int, like: Tensor) -> Rows:
    """Every unit at a place as a functional of its own, in the dtype and on the device of `like`.

    They begin as patches where these can be carried back to the image.
    """
    return units(graph.nodes[place].shape, like, _keeps_windows(graph, place))


def _keeps_windows(graph: Graph, place: int) -> bool:
    """Whether all that leads to a place are square convolutions and maps of single pixels."""
    node = graph.nodes[place]
    layer = node.layer
    local = isinstance(layer, Rectifier | Scaling | Identity) or (
        isinstance(layer, Convolution) and layer.is_square
    )
    return (
        len(node.shape) == 3
        and local
        and all(_keeps_windows(graph, source) for source in node.inputs)
    )
