"""The critical-difference plot: average ranks on a line, and bars over methods that are not told apart."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from attar.report.axes import WIDTH, Axis, clipped, drawing, text

TOP, STEP, GROUP = 46, 19, 8
LETTERS = 30


def groups(ranks: Sequence[float], difference: float) -> list[tuple[int, int]]:
    """The first and the last of each longest row of neighbours that differ by less than the critical difference.

    Args:
        ranks: average ranks, ascending.
        difference: the critical one.

    >>> groups([1.2, 1.9, 2.5, 4.0], 1.0)
    [(0, 1), (1, 2)]
    """
    found: list[tuple[int, int]] = []
    for first in range(len(ranks)):
        last = max(n for n in range(first, len(ranks)) if ranks[n] - ranks[first] < difference)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


def rank_chart(title: str, names: Sequence[str], ranks: Sequence[float], difference: float) -> str:
    """Average ranks, the best to the left; a bar joins methods that the test does not tell apart.

    Args:
        title: read out by screen readers.
        names: the methods.
        ranks: their average ranks.
        difference: the critical one, drawn as a scale above the line.

    >>> rank_chart("Ranks", ["kd", "dkd"], [2.0, 1.0], 0.8).count("<circle")
    2
    """
    order = sorted(range(len(ranks)), key=lambda n: ranks[n])
    sorted_ranks = [ranks[n] for n in order]
    x = Axis(1, len(ranks), 12, WIDTH - 12)
    parts = [f'<path class="axis" d="M{x.start:g} {TOP}H{x.end:g}"/>']
    for tick in range(1, len(ranks) + 1, 1 + len(ranks) // 12):
        parts.append(f'<path class="axis" d="M{x(tick):g} {TOP - 4}V{TOP}"/>')
        parts.append(text(x(tick), TOP - 8, str(tick), "tick", "middle"))
    width = min(difference / (x.high - x.low), 1.0) * (x.end - x.start)
    parts.append(f'<path class="range teacher" d="M{x.start:g} 22H{x.start + width:.1f}"/>')
    parts.append(text(x.start, 14, f"critical difference {difference:.2f}", "tick"))
    joined = groups(sorted_ranks, difference)
    for number, (first, last) in enumerate(joined):
        place = TOP + 10 + GROUP * number
        ends = x(sorted_ranks[first]) - 3, x(sorted_ranks[last]) + 3
        parts.append(f'<path class="range student" d="M{ends[0]:g} {place}H{ends[1]:g}"/>')
    below = TOP + 16 + GROUP * len(joined)
    for place, number in enumerate(order):
        parts += _named(x(ranks[number]), below + STEP * place, names[number], ranks[number], x)
    return drawing(title, below + STEP * len(order) + 8, parts)


def _named(x: float, y: float, name: str, rank: float, axis: Axis) -> list[str]:
    """A method's place on the line, and its name on the side that has room."""
    right = x < (axis.start + axis.end) / 2
    label = f"{clipped(name, LETTERS)} {rank:.2f}"
    return [
        f'<path class="grid" d="M{x:g} {TOP}V{y + 6}"/>',
        f'<circle class="dot teacher" cx="{x:g}" cy="{TOP}" r="3.5"><title>{escape(name)}: {rank:.2f}</title></circle>',
        text(x + (6 if right else -6), y + 10, label, "name", "start" if right else "end"),
    ]
