"""Statistics over a few seeds and pairs: means with intervals, paired gaps, corrected p-values, average ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean, stdev

import numpy as np

from attar.errors import AttarError

# Differences whose deviation is this part of the numbers differ by rounding alone.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Mean:
    """A mean over runs.

    Attributes:
        mean: the mean; infinite or NaN where a value is.
        std: the sample's deviation (n - 1); None for a single run, or where the mean is no number.
        half_width: of the 95 % interval of the mean, by Student's t; None where there is no deviation.
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
        p: two-sided, of the paired t test that the true gap is 0; None for a single run and for equal differences,
            which few images give by chance and the test cannot judge.
    """

    p: float | None

    @property
    def untested(self) -> str:
        """Why there is no interval, empty where there is one.

        >>> paired_gap([2.0, 3.0], [1.0, 2.0]).untested
        'the same in all 2 seeds, so no interval'
        """
        if self.half_width is not None:
            return ""
        if self.count == 1:
            return "1 seed, so no interval"
        return f"{'the same in' if isfinite(self.mean) else 'not finite over'} all {self.count} seeds, so no interval"


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
    # fmean refuses infinite values of both signs.
    mean = fmean(values) if all(map(isfinite, values)) else sum(values) / count
    if count < 2 or not isfinite(mean):
        return Mean(mean, None, None, count)

    from scipy.special import stdtrit  # a second of import that only tables need

    std = stdev(values)
    return Mean(mean, std, float(stdtrit(count - 1, (1 + level) / 2)) * std / count**0.5, count)


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
    if found.std is None:
        return Gap(found.mean, None, None, found.count, None)
    if found.std <= ROUNDING * max(map(abs, (*a, *b))):
        return Gap(found.mean, 0.0, None, found.count, None)

    from scipy.special import stdtr

    p = float(2 * stdtr(found.count - 1, -abs(found.mean) / found.std * found.count**0.5))
    return Gap(found.mean, found.std, found.half_width, found.count, p)


def holm(values: Sequence[float]) -> list[float]:
    """Holm's correction of several p-values (Holm, 1979): the chance of even one false discovery stays below the level.

    The i-th smallest of m values is multiplied by m - i + 1; none becomes smaller than the one before it, or above 1.

    Args:
        values: the p-values of one family of comparisons.

    Returns:
        The corrected values, in the same order.

    >>> [round(p, 3) for p in holm([0.04, 0.01, 0.03])]
    [0.06, 0.03, 0.06]
    """
    corrected, least = [0.0] * len(values), 0.0
    for place, number in enumerate(sorted(range(len(values)), key=lambda n: values[n])):
        least = max(least, min(1.0, (len(values) - place) * values[number]))
        corrected[number] = least
    return corrected


@dataclass(frozen=True)
class Ranking:
    """Methods ranked on each of several data sets or pairs of networks, as in Demsar (2006).

    Attributes:
        ranks: the average rank of each method, 1 the best; methods that tie share the mean of their ranks.
        cases: how many data sets or pairs.
        p: of Friedman's test that all methods have the same rank; None for two methods, or for cases in which all tie.
        difference: the critical difference of Nemenyi's test at 5 %: average ranks closer than this do not differ
            significantly.
    """

    ranks: tuple[float, ...]
    cases: int
    p: float | None
    difference: float


def ranking(scores: Sequence[Sequence[float]], higher: bool = True) -> Ranking:
    """The average ranks of methods over cases, Friedman's test and Nemenyi's critical difference.

    Args:
        scores: one row a case, with the score of each method.
        higher: whether more is better.

    Raises:
        AttarError: there are fewer than two cases or two methods, or a case lacks a method.

    >>> found = ranking([[70.0, 72.0, 71.0], [60.0, 63.0, 61.0]])
    >>> found.ranks, round(found.difference, 2)
    ((3.0, 1.0, 2.0), 2.34)
    """
    count = len(scores[0]) if scores else 0
    if len(scores) < 2 or count < 2 or any(len(row) != count for row in scores):
        raise AttarError("ranks need two or more cases with the same two or more methods in each")

    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    values = -np.asarray(scores) if higher else np.asarray(scores)
    ranks = rankdata(values, axis=1)
    cases = len(scores)
    apart = count > 2 and bool((ranks != ranks[:, :1]).any())
    p = float(friedmanchisquare(*values.T).pvalue) if apart else None
    # Nemenyi's constant is that of the studentised range without limit of freedom, over the root of 2.
    constant = float(studentized_range.ppf(0.95, count, np.inf)) / 2**0.5
    difference = constant * (count * (count + 1) / (6 * cases)) ** 0.5
    return Ranking(tuple(float(rank) for rank in ranks.mean(0)), cases, p, difference)
