"""Means over seeds, how they are printed, and which of them is best."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from statistics import fmean, stdev


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds; `sd` is the sample standard deviation, None for a single seed."""

    mean: float
    sd: float | None
    seeds: int
    left_out: float = 0.0
    """The share of the images that the mean is not of, in [0, 1]."""


@dataclass(frozen=True)
class Scale:
    """How a quantity is printed: times `factor`, with so many decimals."""

    factor: float
    decimals: int


PERCENT = Scale(100, 1)
WEIGHT = Scale(1, 2)  # lambda


def estimate_of(values: Iterable[float], left_out: float = 0.0) -> Estimate | None:
    """Mean and standard deviation of the values that are not NaN; None without any."""
    numbers = [float(value) for value in values if value == value]
    if not numbers:
        return None
    return Estimate(
        fmean(numbers), stdev(numbers) if len(numbers) > 1 else None, len(numbers), left_out
    )


def localized(number: object, mark: str) -> str:
    """A number as it stands, with the language's decimal mark and a true minus sign."""
    return str(number).replace(".", mark).replace("-", "\N{MINUS SIGN}")


def rank(
    estimates: Mapping[str, Estimate],
    higher_is_better: bool,
    resolved: Callable[[str, str], bool | None],
    scale: Scale = PERCENT,
) -> dict[str, int]:
    """1 for the best and all that tie with it, 2 for the same among the rest; nothing for others.

    Two tie if they are equal as printed, or if their difference is not resolved: was not tested,
    or the test did not find it. There is no contest of fewer than two, where all tie, or where a
    mean leaves images out: it is of other images than the others.

    Args:
        resolved: whether the difference of two is resolved; None: untested.
    """
    if not estimates or any(estimate.left_out for estimate in estimates.values()):
        return {}
    sign = 1 if higher_is_better else -1
    printed = {name: rounded(estimate.mean, scale) for name, estimate in estimates.items()}
    rest, ranks = list(estimates), dict[str, int]()
    for place in (1, 2):
        lead = max(rest, key=lambda name: sign * estimates[name].mean)
        ties = [name for name in rest if printed[name] == printed[lead] or not resolved(lead, name)]
        if len(ties) == len(rest):
            break
        ranks |= dict.fromkeys(ties, place)
        rest = [name for name in rest if name not in ties]
    return ranks


def rounded(value: float, scale: Scale) -> Decimal:
    """A half is rounded away from 0, as a reader does who divides 13 by 8."""
    digits = Decimal(1).scaleb(-scale.decimals)
    exact = Decimal(scale.factor * value)
    return exact.quantize(digits, ROUND_HALF_UP) + 0  # + 0 turns -0.0 into 0.0
