"""Means over seeds, how they are printed, and which of them is best."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import fmean, stdev


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds; `sd` is the sample standard deviation, None for a single seed."""

    mean: float
    sd: float | None
    seeds: int
    at_least: bool = False
    """Whether the mean is a lower bound of what is meant."""


@dataclass(frozen=True)
class Scale:
    """How a quantity is printed: times `factor`, with so many decimals."""

    factor: float
    decimals: int


PERCENT = Scale(100, 1)


def estimate(values: Iterable[float], at_least: bool = False) -> Estimate | None:
    """Mean and standard deviation of what is there; None if there is nothing (or only NaN)."""
    known = [float(value) for value in values if value == value]
    if not known:
        return None
    return Estimate(fmean(known), stdev(known) if len(known) > 1 else None, len(known), at_least)


def percent(value: float, mark: str) -> str:
    """0.8534 as "85.3", with the language's decimal mark and a true minus sign."""
    return printed(value, PERCENT, mark)


def printed(value: float, scale: Scale, mark: str) -> str:
    """A value on its scale, with the language's decimal mark and a true minus sign."""
    return write(_rounded(value, scale), mark)


def write(number: object, mark: str) -> str:
    """A number as it stands, with the language's decimal mark and a true minus sign."""
    return str(number).replace(".", mark).replace("-", "\N{MINUS SIGN}")


def best(
    estimates: Sequence[Estimate | None], higher_is_better: bool, scale: Scale = PERCENT
) -> list[bool]:
    """Which are best at the printed precision; several if they tie, none if there is no contest.

    Where one is only a lower bound it is not known which is best.
    """
    values = [None if one is None else _rounded(one.mean, scale) for one in estimates]
    known = [value for value in values if value is not None]
    if len(known) < 2 or any(one is not None and one.at_least for one in estimates):
        return [False] * len(values)
    winner = max(known) if higher_is_better else min(known)
    return [value == winner for value in values]


def within_one_sd(one: Estimate, other: Estimate) -> bool | None:
    """Whether two means differ by at most the larger of their sds; None if a sd is missing."""
    if one.sd is None or other.sd is None:
        return None
    # Rates are multiples of 1 / images: a difference of exactly one sd is not lost to rounding.
    return abs(one.mean - other.mean) <= max(one.sd, other.sd) + 1e-12


def _rounded(value: float, scale: Scale) -> Decimal:
    return Decimal(f"{scale.factor * value:.{scale.decimals}f}") + 0  # + 0 turns -0.0 into 0.0
