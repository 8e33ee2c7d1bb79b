"""Cost of bounds of the dual network: exact and estimated, and how it grows with the units.

    python benchmarks/bounds.py [--batch 50] [--sides 16 28 40 56]

Loss and gradient of a batch on the small network of Wong & Kolter (2018), 28x28, random weights,
epsilon 0.1 within [0, 1], one thread. "forward" is the structure of the published code: every pixel
and every unstable unit is a vector that is carried through the network; it is timed on five images,
because more do not fit the memory of most machines. CPU seconds, the best of two.
"""

import time
from collections.abc import Callable

import harness
import torch
import torch.nn.functional as F
from torch import Tensor

from tradeoff.archs import wongsmall
from tradeoff.certificates.bounds.exact import exact
from tradeoff.certificates.bounds.graph import Graph, read
from tradeoff.certificates.bounds.interval import from_intervals, intervals
from tradeoff.certificates.bounds.objective import Bounded, worst_logits
from tradeoff.certificates.bounds.projected import projected
from tradeoff.certificates.bounds.relaxation import Ball, ball

EPSILON = 0.1
Method = Callable[[Graph, Ball], Bounded]


def seconds(method: Method, batch: int, side: int = 28) -> tuple[float, float]:
    """CPU seconds of a forward and a backward pass of a batch, and the loss."""
    torch.manual_seed(0)
    network = wongsmall.build((1, side, side), 10, 1.0)
    images, labels = torch.rand(batch, 1, side, side), torch.arange(batch) % 10
    best = float("inf")
    for _ in range(2):
        begin = time.process_time()
        loss = _loss(network, images, labels, method)
        loss.backward()  # type: ignore[no-untyped-call]
        best = min(best, time.process_time() - begin)
    return best, float(loss.detach())


def _loss(network: torch.nn.Module, images: Tensor, labels: Tensor, method: Method) -> Tensor:
    graph = read(network, images)
    around = ball(images, EPSILON, "linf", clipped=True, graph=graph)
    return F.cross_entropy(worst_logits(method(graph, around), labels), labels)


def estimated(projections: int | None) -> Method:
    draws = torch.Generator().manual_seed(0)
    return lambda graph, around: projected(graph, around, projections, draws)


METHODS: dict[str, Method] = {
    "exact": exact,
    "projections, k = 50": estimated(50),
    "projections, k = 10": estimated(10),
    "intervals": intervals,
    "CROWN-IBP": lambda graph, around: from_intervals(intervals(graph, around)),
}


def main() -> None:
    given = harness.parser(__doc__, batch=50, sides=[16, 28, 40, 56]).parse_args()
    torch.set_num_threads(1)
    for name, method in METHODS.items():
        cost, loss = seconds(method, given.batch)
        print(f"{name:24} {cost:7.2f} s   loss {loss:.4f}")
    few = min(5, given.batch)
    cost, loss = seconds(estimated(None), few)
    print(f"{'forward, all vectors':24} {cost * given.batch / few:7.2f} s   by {few} images")
    print("projections, k = 50, by the size of the images:")
    for side in given.sides:
        units = 16 * (side // 2) ** 2 + 32 * (side // 4) ** 2 + 100
        print(f"  {units:6} hidden units {seconds(estimated(50), given.batch, side)[0]:7.2f} s")


if __name__ == "__main__":
    main()
