"""A standard network mixed with a smoothed one, for which there is a certificate (Bai et al. 2023).

    log((1 - alpha) p_natural(x) + alpha 1/m sum_j p(x + sigma n_j))

Where the smoothed network has its class with probability q, the mixture has it with alpha q at
least, whatever the standard network says: Cohen's radius with alpha q in place of q.
"""

from collections.abc import Sequence

from torch import nn

from tradeoff.classifiers import smoothed
from tradeoff.classifiers.mixed import Mixed
from tradeoff.core.schema import Fraction, Positive, PositiveInt, Section


class Knobs(Section):
    alpha: Fraction
    sigma: Positive
    copies: PositiveInt


def build(
    networks: Sequence[nn.Module], knobs: Knobs, *, image: tuple[int, ...], seed: int
) -> nn.Module:
    """The mixture of two networks, the natural one first; the other is smoothed."""
    natural, noisy = networks
    parts = smoothed.Knobs(sigma=knobs.sigma, copies=knobs.copies)
    return Mixed(natural, smoothed.build([noisy], parts, image=image, seed=seed), knobs.alpha)
