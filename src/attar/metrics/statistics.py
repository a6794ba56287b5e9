"""Statistics over a few seeds: a mean with its interval, and the gap between two methods over shared seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from attar.errors import AttarError


@dataclass(frozen=True)
class Mean:
    """A mean over runs.

    Attributes:
        mean: the mean.
        std: the sample's deviation (n - 1); None for a single run.
        half_width: of the 95 % interval of the mean, by Student's t; None for a single run.
        count: runs.
    """

    mean: float
    std: float | None
    half_width: float | None
    count: int

    def __str__(self) -> str:
        return f"{self.mean:.2f}" if self.half_width is None else f"{self.mean:.2f} ± {self.half_width:.2f}"


@dataclass(frozen=True)
class Gap(Mean):
    """The mean of paired differences a - b.

    Attributes:
        p: two-sided, of the paired t test that the true gap is 0; None for a single pair.
    """

    p: float | None


def summarise(values: Sequence[float], level: float = 0.95) -> Mean:
    """The mean over runs with its interval by Student's t.

    Args:
        values: one number a run.
        level: the chance that such intervals cover the truth.

    Raises:
        AttarError: there are no values.

    >>> found = summarise([70.1, 70.5, 70.3])
    >>> print(found)
    70.30 ± 0.50
    """
    if not values:
        raise AttarError("there are no values to summarise; give at least one")
    count = len(values)
    if count < 2:
        return Mean(float(values[0]), None, None, count)

    from scipy.special import stdtrit  # a second of import that only tables need

    std = stdev(values)
    return Mean(fmean(values), std, float(stdtrit(count - 1, (1 + level) / 2)) * std / count**0.5, count)


def paired_gap(a: Sequence[float], b: Sequence[float]) -> Gap:
    """How much better a is than b over the same seeds, with a 95 % interval and a paired t test.

    Args:
        a: one number a seed.
        b: the other method's, in the same order of seeds.

    Raises:
        AttarError: the lengths differ, or there are no values.

    >>> gap = paired_gap([70.1, 70.5, 70.3], [69.9, 70.1, 70.0])
    >>> round(gap.mean, 2), round(gap.p, 3)
    (0.3, 0.035)
    """
    if len(a) != len(b):
        raise AttarError(f"{len(a)} values against {len(b)}; a paired comparison needs the same seeds on both sides")
    found = summarise([x - y for x, y in zip(a, b, strict=True)])
    return Gap(found.mean, found.std, found.half_width, found.count, _p_value(found))


def _p_value(gap: Mean) -> float | None:
    """Two-sided, by Student's t; differences that are all alike leave no doubt either way."""
    if gap.std is None:
        return None
    if gap.std == 0.0:
        return 1.0 if gap.mean == 0.0 else 0.0

    from scipy.special import stdtr

    return float(2 * stdtr(gap.count - 1, -abs(gap.mean) / gap.std * gap.count**0.5))
