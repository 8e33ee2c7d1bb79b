"""Bounds estimated by random projections (Wong et al. 2018, section 3.2), and their exact limit.

Forward mode: whatever can move a value, a pixel or the band of a ReLU, is a vector that is carried
through the relaxed network; a value moves by the sum of its components' sizes. By the 1-stability
of the Cauchy distribution that sum is estimated by the median of |v . c| for a few Cauchy vectors
c, and the l2 norm by the root mean square for normal ones. The cost then grows with the number of
units, not with its square.

Estimates are no bounds: they serve training alone. Of an even number of projections the median is
the lower of the two in the middle.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tradeoff.certificates.bounds.graph import Graph, Maximum, Rectifier, sum_of
from tradeoff.certificates.bounds.relaxation import (
    Ball,
    Polytope,
    Relaxation,
    Relaxations,
    polytope,
    root,
)


def projected(
    graph: Graph, ball: Ball, projections: int | None, generator: torch.Generator | None
) -> Polytope:
    """The outer polytope with estimated bounds; the objective on it is the exact one.

    Args:
        projections: k; what has at most k vectors is summed exactly. None: everything is.
        generator: on the device of the images; None with no projections.
    """
    return polytope(graph, ball, _Carried(graph, ball, projections, generator).bounds)


@dataclass
class _Vectors:
    """Vectors that stem from one source, and how the size of their sum is found.

    Attributes:
        values: by place, (N, vectors, *shape).
        size: of vectors (N, vectors, *shape): (N, *shape).
    """

    values: dict[int, Tensor]
    size: Callable[[Tensor], Tensor]


@dataclass
class _Carried:
    """The vectors of all sources, carried as far as they were asked for."""

    graph: Graph
    ball: Ball
    projections: int | None
    generator: torch.Generator | None
    sources: list[_Vectors] = field(default_factory=list)
    reached: int = 0

    def __post_init__(self) -> None:
        radius, euclidean = self.ball.radius, self.ball.norm == "l2"
        if self._is_few(radius[0].numel()):
            eye = torch.eye(radius[0].numel(), dtype=radius.dtype, device=radius.device)
            vectors = radius[:, None] * eye.view(1, -1, *radius.shape[1:])
            self._begin(0, vectors, _euclidean if euclidean else _absolute)
            return
        # One draw for all images.
        drawn = self._drawn((1, *radius.shape[1:]), normal=euclidean)
        self._begin(0, radius[:, None] * drawn, _root_mean_square if euclidean else _median)

    def bounds(self, place: int, centre: Tensor, relaxations: Relaxations) -> tuple[Tensor, Tensor]:
        for next_place in range(self.reached + 1, place + 1):
            self._carry(next_place, relaxations)
        self.reached = max(self.reached, place)
        width = sum_of([source.size(source.values[place]) for source in self.sources])
        return centre - width, centre + width

    def _carry(self, place: int, relaxations: Relaxations) -> None:
        node = self.graph.nodes[place]
        layer = node.layer
        assert not isinstance(layer, Maximum)
        for source in self.sources:
            known = [source.values[p] for p in node.inputs if p in source.values]
            if not known:  # the source lies on another branch
                continue
            given = sum_of(known)
            if isinstance(layer, Rectifier):
                source.values[place] = relaxations[place].slope[:, None] * given
            else:
                carried = layer.linear(given.flatten(0, 1))
                source.values[place] = carried.unflatten(0, given.shape[:2])
        if isinstance(layer, Rectifier):
            self._add_source(place, relaxations[place])

    def _add_source(self, place: int, relaxation: Relaxation) -> None:
        offset, unstable = relaxation.offset, relaxation.unstable
        if not self._is_few(int(unstable.sum())):
            self._begin(place, offset[:, None] * self._drawn(tuple(offset.shape)), _median)
            return
        (units,) = unstable.any(0).flatten().nonzero(as_tuple=True)
        if len(units) > 0:
            one_hot = torch.nn.functional.one_hot(units, offset[0].numel()).to(offset.dtype)
            one_hot = one_hot.view(1, -1, *offset.shape[1:])
            self._begin(place, offset[:, None] * one_hot, _absolute)

    def _begin(self, place: int, vectors: Tensor, size: Callable[[Tensor], Tensor]) -> None:
        self.sources.append(_Vectors({place: vectors}, size))

    def _is_few(self, count: int) -> bool:
        return self.projections is None or count <= self.projections

    def _drawn(self, shape: tuple[int, ...], normal: bool = False) -> Tensor:
        """Random numbers (N, projections, *rest) for a shape (N, *rest)."""
        assert self.projections is not None
        empty = self.ball.radius.new_empty(shape[0], self.projections, *shape[1:])
        if normal:
            return empty.normal_(generator=self.generator)
        return empty.cauchy_(generator=self.generator)


def _absolute(vectors: Tensor) -> Tensor:
    return vectors.abs().sum(1)


def _euclidean(vectors: Tensor) -> Tensor:
    return root(vectors.square().sum(1))


def _median(vectors: Tensor) -> Tensor:
    return vectors.abs().median(1).values


def _root_mean_square(vectors: Tensor) -> Tensor:
    return root(vectors.square().mean(1))
