"""Scales and frames of charts: where a value goes on the paper, and the round numbers beside it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

# Every chart has this width, so that on a telephone its letters are as large as on a desk.
WIDTH = 340
MINUS = "\u2212"


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` on paper from `start` to `end`.

    Attributes:
        low: the value at `start`.
        high: the value at `end`.
        start: in pixels.
        end: in pixels; before `start` for an axis that runs upwards.
        logarithmic: whether equal steps on paper are equal ratios.

    >>> Axis(0, 10, 100, 200)(5), Axis(1, 100, 0, 100, logarithmic=True)(10)
    (150.0, 50.0)
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (math.log10(v) if self.logarithmic else v for v in (self.low, self.high, value))
        return round(self.start + (value - low) / (high - low) * (self.end - self.start), 1)

    def ticks(self, count: int = 6) -> list[float]:
        """Round values inside the axis, about so many."""
        if not self.logarithmic:
            step = round_step((self.high - self.low) / count)
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            return [n * step for n in range(first, last + 1)]
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        # A few decades have room for 2 and 5 between them; very many show only some.
        digits = (1, 2, 5) if len(powers) <= 3 else (1,)
        every = max(1, len(powers) // (count + 1))
        values = [digit * 10.0**power for power in powers[::every] for digit in digits]
        return [value for value in values if self.low * (1 - 1e-9) <= value <= self.high * (1 + 1e-9)]


def round_step(step: float) -> float:
    """The next larger step of 1, 2 or 5 times a power of ten.

    >>> round_step(0.03), round_step(7)
    (0.05, 10.0)
    """
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= step * (1 - 1e-9))


def fitted(values: Iterable[float], start: float, end: float, logarithmic: bool = False, room: float = 0.06) -> Axis:
    """An axis that holds all values with some room on either side.

    >>> axis = fitted([90.0, 95.0], 0, 100)
    >>> axis.low, axis.high
    (89.7, 95.3)
    """
    found = list(values)
    low, high = (min(found), max(found)) if found else (0.0, 1.0)
    if logarithmic:
        factor = (high / low) ** room if high > low else 1.5
        return Axis(low / factor, high * factor, start, end, True)
    margin = room * (high - low) or max(abs(high) * 0.1, 0.5)
    return Axis(low - margin, high + margin, start, end)


def number(value: float) -> str:
    """A tick's value, short.

    >>> number(0.5), number(20.0), number(1_200_000), number(0.0001), number(-3.0)
    ('0.5', '20', '1.2M', '0.0001', '−3')
    """
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):.3g}{unit}".replace("-", MINUS)
    return (f"{value:.0e}" if 0 < abs(value) < 1e-4 else f"{value:.4g}").replace("-", MINUS)


def drawing(title: str, height: float, parts: Sequence[str]) -> str:
    """An <svg> element that a screen reader can name."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}" role="img">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def frame(x: Axis, y: Axis, x_label: str, y_label: str, whole: bool = False) -> str:
    """Faint lines at round values with their numbers, and what the axes mean.

    Args:
        x: from left to right.
        y: from bottom to top.
        x_label: stands below, to the right.
        y_label: stands above, to the left.
        whole: x counts something, so that only whole numbers stand below it.
    """
    parts = []
    for value in y.ticks():
        place = y(value)
        parts.append(f'<path class="grid" d="M{x.start:g} {place:g}H{x.end:g}"/>')
        parts.append(text(x.start - 6, place + 3.5, number(value), "tick", "end"))
    for value in x.ticks():
        if not whole or value == int(value):
            parts.append(text(x(value), y.start + 16, number(value), "tick", "middle"))
    parts.append(f'<path class="axis" d="M{x.start:g} {y.start:g}H{x.end:g}"/>')
    parts.append(text(x.end, y.start + 32, x_label, "label", "end"))
    parts.append(text(0, y.end - 10, y_label, "label"))
    return "".join(parts)


def text(x: float, y: float, content: str, kind: str, anchor: str = "start") -> str:
    """A piece of text, escaped."""
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:g}" y="{y:g}" class="{kind}"{where}>{escape(content)}</text>'


def clipped(content: str, letters: int) -> str:
    """At most so many letters; a number at the end, which may be what tells names apart, stays.

    >>> clipped("sweet pepper", 8), clipped("indigo_garnet_0103", 12)
    ('sweet p…', 'indigo_…0103')
    """
    if len(content) <= letters:
        return content
    number = re.search(r"\d*$", content)
    end = number.group() if number and len(number.group()) < letters // 2 else ""
    return content[: letters - 1 - len(end)] + "…" + end
