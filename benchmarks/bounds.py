"""Cost of bounds of the dual network: exact and estimated, and how it grows with the units.

    python benchmarks/bounds.py

Loss and gradient of a batch of 50 on the small network of Wong & Kolter (2018), one thread, random
weights, epsilon 0.1 within [0, 1]. "forward" is the structure of the published code: every pixel
and every unstable unit is a vector that is carried through the network. CPU seconds, the best of
two.
"""

import time
from collections.abc import Callable

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

BATCH, EPSILON = 50, 0.1
Method = Callable[[Graph, Ball], Bounded]


def seconds(method: Method, side: int = 28, batch: int = BATCH) -> tuple[float, float]:
    """CPU seconds of one forward and backward pass for each batch of 50, and the loss."""
    torch.manual_seed(0)
    network = wongsmall.build((1, side, side), 10, 1.0)
    images, labels = torch.rand(batch, 1, side, side), torch.arange(batch) % 10
    best = float("inf")
    for _ in range(2):
        begin = time.process_time()
        loss = _loss(network, images, labels, method)
        loss.backward()  # type: ignore[no-untyped-call]
        best = min(best, time.process_time() - begin)
    return best * BATCH / batch, float(loss.detach())


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
    "CROWN-IBP": lambda graph, around: from_intervals(intervals(graph, around), around),
}


def main() -> None:
    torch.set_num_threads(1)
    for name, method in METHODS.items():
        cost, loss = seconds(method)
        print(f"{name:24} {cost:7.2f} s   loss {loss:.4f}")
    # A few images at once: all vectors of 50 do not fit the memory of most machines.
    print(f"{'forward, all vectors':24} {seconds(estimated(None), batch=5)[0]:7.2f} s")
    print("projections, k = 50, by the size of the images:")
    for side in (16, 28, 40, 56):
        units = 16 * (side // 2) ** 2 + 32 * (side // 4) ** 2 + 100
        print(f"  {units:6} hidden units {seconds(estimated(50), side)[0]:7.2f} s")


if __name__ == "__main__":
    main()
