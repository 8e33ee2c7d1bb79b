"""Is one defense better than another, or are these seeds and images? Paired, on the same images.

Every function takes two arrays (seeds, images): per sample a number of each defense, 0 or 1 for
an accuracy (row s is seed s, column i is image i of both). Their difference is modelled as

    d_si = mean + seed_s + image_i + rest_si

so that an estimate says something of seeds and images that were not drawn. Differences are in
the units of the metric: 0.01 is a percentage point of an accuracy.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

from tradeoff.attacks.suites.ledger import Array


class Interval(NamedTuple):
    """The mean difference, one - other, and a confidence interval for it."""

    difference: float
    low: float
    high: float


class Uncertainty(NamedTuple):
    """How much of the mean difference may come from the draw of seeds and of images.

    Attributes:
        seed_variance: of seed_s; NaN for a single seed, which cannot tell.
        image_variance: of image_i (of a single seed: of image and rest together).
        rest_variance: of rest_si; NaN for a single seed.
        standard_error: of the mean difference.
        degrees_of_freedom: of the t distribution that goes with the standard error.
    """

    seed_variance: float
    image_variance: float
    rest_variance: float
    standard_error: float
    degrees_of_freedom: float


def t_interval(one: Array, other: Array, level: float = 0.95) -> Interval:
    """mean +- t * standard error, by `uncertainty`; honest, hence wide, for few seeds.

    For a single seed the interval is of the difference between these two models on other images.

    Raises:
        ValueError: as `uncertainty`; or level is not in (0, 1).
    """
    _check_share("level", level)
    mean = float(_difference(one, other).mean())
    spread = uncertainty(one, other)
    half = float(stdtrit(spread.degrees_of_freedom, (1 + level) / 2)) * spread.standard_error
    return Interval(mean, mean - half, mean + half)


def t_test(one: Array, other: Array) -> float:
    """The two-sided p value of "on average they do not differ", in [0, 1].

    It is below 1 - level where `t_interval` at that level excludes 0. Where nothing varies, it is
    1 without a difference and else 0.

    Raises:
        ValueError: as `uncertainty`.
    """
    mean = float(_difference(one, other).mean())
    spread = uncertainty(one, other)
    if spread.standard_error == 0:
        return float(mean == 0)
    return 2 * float(stdtr(spread.degrees_of_freedom, -abs(mean) / spread.standard_error))


def holm(p_values: Array) -> Array:
    """p values (k,) of a family of tests, adjusted for their number, (k,) in [0, 1].

    Rejecting those that are at most alpha makes any false rejection in the family as rare as
    alpha, whatever depends on what (Holm 1979). NaN, a test that could not be made, stays NaN and
    does not count.
    """
    values = np.asarray(p_values, dtype=np.float64)
    tested = np.flatnonzero(~np.isnan(values))
    order = tested[np.argsort(values[tested])]
    adjusted = np.full(len(values), np.nan)
    remaining = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(remaining * values[order]), 1)
    return adjusted


def uncertainty(one: Array, other: Array) -> Uncertainty:
    """Variance components of the paired difference, by the two-way analysis of variance.

    With S seeds and I images, the mean difference has the variance

        seed_variance / S + image_variance / I + rest_variance / (S I).

    Components are estimated from the mean squares of seeds, images and rest, and are 0 where that
    would be negative. The degrees of freedom are Satterthwaite's (1946): close to S - 1 where
    seeds dominate, in the hundreds or more where images do. A single seed says nothing of other
    seeds: its standard error is of the sampling of images only.

    Raises:
        ValueError: the arrays do not match, or are empty or not finite, or have one image only.
    """
    difference = _difference(one, other)
    seeds, images = difference.shape
    if images < 2:
        raise ValueError("a single image says nothing of others; at least 2 are needed")
    if seeds == 1:
        variance = float(difference.var(ddof=1))
        return Uncertainty(np.nan, variance, np.nan, (variance / images) ** 0.5, images - 1.0)
    mean, by_seed, by_image = difference.mean(), difference.mean(1), difference.mean(0)
    residual = difference - by_seed[:, None] - by_image + mean
    free = np.array([seeds - 1.0, images - 1.0, (seeds - 1.0) * (images - 1.0)])
    rest = float((residual**2).sum() / free[2])
    of_seeds = max(float(images * by_seed.var(ddof=1)), rest)
    of_images = max(float(seeds * by_image.var(ddof=1)), rest)
    # The variance of the mean, times S I, in terms of mean squares.
    terms = np.array([of_seeds, of_images, -rest])
    total = float(terms.sum())
    scale = float((terms**2 / free).sum())
    return Uncertainty(
        (of_seeds - rest) / images,
        (of_images - rest) / seeds,
        rest,
        (total / difference.size) ** 0.5,
        total**2 / scale if scale > 0 else float(free[2]),
    )


def minimum_detectable_difference(
    one: Array, other: Array, *, alpha: float = 0.05, power: float = 0.8
) -> float:
    """The smallest true difference that such seeds and images would show to be one.

        (t_{1 - alpha / 2} + t_{power}) * sqrt(seed_variance / S + image_variance / I
                                               + rest_variance / (S I))

    is what a two-sided test at level `alpha` finds with probability `power`; components and
    degrees of freedom of t are those of `uncertainty`, estimated on the arrays given. With many
    degrees of freedom the factor is 2.80; with the two that three seeds have it is 5.36, and the
    standard error is then itself known to about half. For a single seed: the difference between
    these two models, on other images.

    Raises:
        ValueError: as `uncertainty`; or alpha is not in (0, 1), or power not in [0.5, 1).
    """
    _check_share("alpha", alpha)
    if not 0.5 <= power < 1:
        raise ValueError(f"power is {power}; it must be in [0.5, 1)")
    spread = uncertainty(one, other)
    quantiles = stdtrit(spread.degrees_of_freedom, [1 - alpha / 2, power])
    return float(quantiles.sum()) * spread.standard_error


def _difference(one: Array, other: Array) -> Array:
    if one.shape != other.shape or one.ndim != 2 or one.size == 0:
        raise ValueError(
            f"arrays of shapes {one.shape} and {other.shape}; "
            "two of the same shape (seeds, images) are needed, neither of them 0"
        )
    difference = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    if not np.isfinite(difference).all():
        raise ValueError("the arrays hold values that are not finite")
    return difference


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} is {value}; it must be in (0, 1)")
