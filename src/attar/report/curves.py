"""Line charts as SVG text, small enough to need no plotting library."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 760, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 12, 44
# Okabe and Ito's palette: told apart by the colour-blind too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
TICKS = 5


@dataclass(frozen=True)
class Line:
    """One curve: its name and its points."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def chart(lines: Sequence[Line], x_label: str, y_label: str, logarithmic: bool = False) -> str:
    """The curves in one frame with a legend below; points at or below 0 are left out of a logarithmic chart."""
    shape = math.log10 if logarithmic else float
    points = [[(x, shape(y)) for x, y in zip(line.x, line.y, strict=True) if not logarithmic or y > 0] for line in lines]
    xs = [x for curve in points for x, _ in curve] or [0.0]
    ys = [y for curve in points for _, y in curve] or [0.0]
    low_x, high_x, low_y, high_y = min(xs), max(xs), min(ys), max(ys)
    pad = 0.05 * (high_y - low_y) or 0.5
    low_y, high_y = low_y - pad, high_y + pad

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - low_x) / ((high_x - low_x) or 1)
        return LEFT + across * (WIDTH - LEFT - RIGHT), TOP + (high_y - y) / (high_y - low_y) * (HEIGHT - TOP - BOTTOM)

    legend = 20 * len(lines)
    parts = [_frame(low_x, high_x, low_y, high_y, place, logarithmic), _labels(x_label, y_label)]
    for number, (line, curve) in enumerate(zip(lines, points, strict=True)):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in curve))
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in (place(*p) for p in curve))
        y = HEIGHT + 14 + 20 * number
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}'
            f'<rect x="{LEFT}" y="{y - 8}" width="14" height="4" fill="{colour}"/>'
            f'<text x="{LEFT + 22}" y="{y - 2}">{escape(line.name)}</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT + legend + 8}" width="{WIDTH}" '
        'font-family="system-ui, sans-serif" font-size="12" fill="currentColor">' + "".join(parts) + "</svg>"
    )


Place = Callable[[float, float], tuple[float, float]]


def _frame(low_x: float, high_x: float, low_y: float, high_y: float, place: Place, logarithmic: bool) -> str:
    """Grid lines with their numbers."""
    parts = []
    for tick in range(TICKS):
        y = low_y + (high_y - low_y) * tick / (TICKS - 1)
        left, height = place(low_x, y)
        shown = 10**y if logarithmic else y
        parts.append(
            f'<line x1="{left}" x2="{WIDTH - RIGHT}" y1="{height:.1f}" y2="{height:.1f}" stroke="currentColor" '
            f'opacity=".15"/><text x="{left - 8}" y="{height + 4:.1f}" text-anchor="end">{shown:.3g}</text>'
        )
    for x in sorted({round(low_x + (high_x - low_x) * tick / (TICKS - 1)) for tick in range(TICKS)}):
        across, _ = place(x, low_y)
        parts.append(f'<text x="{across:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{x:g}</text>')
    return "".join(parts)


def _labels(x_label: str, y_label: str) -> str:
    middle = TOP + (HEIGHT - TOP - BOTTOM) / 2
    return (
        f'<text x="{LEFT + (WIDTH - LEFT - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>'
        f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'
    )
