"""Means over seeds, how they are printed, and which of them is best."""

from collections.abc import Callable, Iterable, Mapping, Sequence
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


Detectable = Callable[[int, int], float | None]
"""The smallest detectable difference of two of the estimates, by their places; None: not known."""


def rank(
    estimates: Sequence[Estimate | None],
    higher_is_better: bool,
    detectable: Detectable = lambda one, other: None,
    scale: Scale = PERCENT,
) -> list[int]:
    """1 for the best and all that tie with it, 2 for the best of the rest, 0 for others.

    Two tie if they are equal as printed, or differ by less than is detectable. There is no contest
    of fewer than two, where all tie, or where one is a lower bound: it could be the best.
    """
    places = [place for place, one in enumerate(estimates) if one is not None]
    known = {place: one for place, one in enumerate(estimates) if one is not None}
    ranks = [0] * len(estimates)
    if len(known) < 2 or any(one.at_least for one in known.values()):
        return ranks
    sign = 1 if higher_is_better else -1
    lead = max(places, key=lambda place: sign * known[place].mean)
    ties = [place for place in places if tie(known, lead, place, detectable, scale)]
    rest = [place for place in places if place not in ties]
    if not rest:
        return ranks
    second = max(rest, key=lambda place: sign * known[place].mean)
    printed_second = _rounded(known[second].mean, scale)
    for place in ties:
        ranks[place] = 1
    for place in rest:
        ranks[place] = 2 if _rounded(known[place].mean, scale) == printed_second else 0
    return ranks


def tie(
    known: Mapping[int, Estimate], one: int, other: int, detectable: Detectable, scale: Scale
) -> bool:
    """Whether two of the estimates are equal as printed or closer than is detectable."""
    if _rounded(known[one].mean, scale) == _rounded(known[other].mean, scale):
        return True
    limit = detectable(one, other)
    return limit is not None and abs(known[one].mean - known[other].mean) < limit


def _rounded(value: float, scale: Scale) -> Decimal:
    return Decimal(f"{scale.factor * value:.{scale.decimals}f}") + 0  # + 0 turns -0.0 into 0.0
