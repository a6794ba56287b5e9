"""How latencies are printed and compared: the one rule for the terminal, pages and tables.

A ratio of two medians is printed where both were steady, that is, where the distance between the quartiles is at most
half of the median, and where the ranges between the quartiles, taken around the medians, do not overlap. Ranges that
overlap are "as fast"; of latencies that were not steady no ratio is printed, only the medians with their spreads.
"""

from __future__ import annotations

from typing import Literal

from attar.profiling import Cost, Latency

# The largest distance between the quartiles, as a share of the median, with which a latency is compared.
STEADY = 0.5

Verdict = Literal["ratio", "alike", "unsteady", "missing"]


def latency_of(cost: Cost) -> Latency | None:
    """A network's latency in milliseconds; None where it could not be measured."""
    if cost.latency_ms is None or cost.latency_spread_ms is None:
        return None
    return Latency(cost.latency_ms, cost.latency_spread_ms)


def verdict(one: Latency | None, other: Latency | None) -> Verdict:
    """What may be said of two latencies.

    >>> verdict(Latency(3.0, 0.2), Latency(1.5, 0.1)), verdict(Latency(352.0, 277.0), Latency(220.0, 10.0))
    ('ratio', 'unsteady')
    >>> verdict(Latency(3.0, 0.2), Latency(2.9, 0.1)), verdict(None, Latency(2.9, 0.1))
    ('alike', 'missing')
    """
    if one is None or other is None:
        return "missing"
    if any(latency.spread > STEADY * latency.median for latency in (one, other)):
        return "unsteady"
    slow, fast = sorted((one, other), reverse=True)
    apart = slow.median - slow.spread / 2 > fast.median + fast.spread / 2
    return "ratio" if apart and round(slow.median / fast.median, 1) > 1 else "alike"


def speed(teacher: Latency | None, student: Latency | None) -> str:
    """How fast a student is beside its teacher, in words; empty where they cannot be compared.

    >>> speed(Latency(3.0, 0.2), Latency(1.5, 0.1)), speed(Latency(3.0, 0.2), Latency(2.9, 0.1))
    ('2.0 times faster', 'as fast')
    >>> speed(Latency(352.0, 277.0), Latency(220.0, 10.0))
    ''
    """
    found = verdict(teacher, student)
    if found == "alike":
        return "as fast"
    if found != "ratio" or teacher is None or student is None:
        return ""
    return times(teacher.median, student.median, "faster", "slower")


def times(teacher: float, student: float, less: str, more: str) -> str:
    """How many times less the student needs than its teacher, or how many times more.

    >>> times(31.0, 20.0, "smaller", "larger"), times(1.0, 2.0, "faster", "slower")
    ('1.6 times smaller', '2.0 times slower')
    """
    ratio, word = (teacher / student, less) if teacher >= student else (student / teacher, more)
    return f"{ratio:.1f} times {word}"


def milliseconds(latency: Latency | None) -> str:
    """The median, and the distance between the quartiles in brackets; "-" where nothing was measured.

    >>> milliseconds(Latency(2.345, 0.123)), milliseconds(Latency(123.4, 10.2)), milliseconds(None)
    ('2.35 (0.12)', '123 (10)', '-')
    """
    if latency is None:
        return "-"
    digits = 2 if latency.median < 10 else 1 if latency.median < 100 else 0
    return f"{latency.median:.{digits}f} ({latency.spread:.{digits}f})"
