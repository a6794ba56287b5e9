"""Charts as SVG text, drawn here so that a report needs no other package. Their colours are the page's.

Every mark has a role for its class: "teacher", "alone", "student", "peer", or "hue0" to "hue7" for runs side by side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from attar.report.axes import MINUS, WIDTH, Axis, clipped, drawing, fitted, frame, text
from attar.report.point_names import placed_names

LEFT, RIGHT = 40, WIDTH - 12
# The width of a value with its sign.
VALUES = 48
# More points than this are not seen at this width.
POINTS = 150
# From so large a ratio on, a curve of losses is drawn on a logarithmic scale.
DECADE = 10.0


@dataclass(frozen=True)
class Line:
    """One curve: its name, its role, its points, and whether it only stands behind the others."""

    name: str
    role: str
    x: Sequence[float]
    y: Sequence[float]
    faint: bool = False


@dataclass(frozen=True)
class Dot:
    """One value with its interval, and where it stands on the other axis, if there is one."""

    name: str
    role: str
    value: float
    low: float
    high: float
    x: float = 0.0


def line_chart(title: str, lines: Sequence[Line], x_label: str, y_label: str, height: int = 200) -> str:
    """Curves in one frame; on a logarithmic scale where they are positive and span more than a decade.

    >>> line_chart("Loss", [Line("loss", "student", [1, 2], [3.0, 1.0])], "epoch", "").startswith("<svg")
    True
    """
    kept = [(line, _thinned(line)) for line in lines]
    xs = [x for _, points in kept for x, _ in points]
    ys = [y for _, points in kept for _, y in points]
    steep = bool(ys) and "%" not in y_label and min(ys) > 0 and max(ys) / min(ys) > DECADE
    x = Axis(min(xs), max(xs), LEFT, RIGHT) if xs and max(xs) > min(xs) else fitted(xs, LEFT, RIGHT)
    y = fitted(ys, height - 38, 28, steep)
    parts = [frame(x, y, x_label, y_label + (" (log)" if steep else ""), whole=True)]
    for line, points in sorted(kept, key=lambda pair: not pair[0].faint):
        kind = f"line {line.role}" + (" faint" if line.faint else "")
        path = "M" + "L".join(f"{x(a):g} {y(b):g}" for a, b in points)
        if len(points) > 1:
            parts.append(f'<path class="{kind}" d="{path}"><title>{escape(line.name)}</title></path>')
        elif points:
            parts.append(f'<circle class="dot {line.role}" cx="{x(points[0][0]):g}" cy="{y(points[0][1]):g}" r="3"/>')
    return drawing(title, height, parts)


def _thinned(line: Line) -> list[tuple[float, float]]:
    """The points that are numbers, as many as can be seen; the last one always."""
    points = [(a, b) for a, b in zip(line.x, line.y, strict=True) if math.isfinite(b)]
    step = -(-len(points) // POINTS)
    return points[:: step or 1] + (points[-1:] if step > 1 and (len(points) - 1) % step else [])


def drawable(dots: Sequence[Dot]) -> list[Dot]:
    """Those with a place on paper: a perplexity may be infinite; the table beside has it."""
    return [dot for dot in dots if all(map(math.isfinite, (dot.value, dot.low, dot.high, dot.x)))]


def dot_plot(title: str, dots: Sequence[Dot], label: str, digits: int, signed: bool = False) -> str:
    """Values with their intervals, one below another; `signed` ones with a line at zero."""
    dots = drawable(dots)
    step, top = 46, 8
    height = top + step * len(dots) + 40
    ends = [end for dot in dots for end in (dot.low, dot.high)] + ([0.0] if signed else [])
    # The line at zero stays clear of the values, which stand at the right.
    x = fitted(ends, 12, RIGHT - (VALUES if signed else 0))
    bottom = top + step * len(dots)
    parts = []
    for value in x.ticks():
        parts.append(f'<path class="grid" d="M{x(value):g} {top}V{bottom}"/>')
        parts.append(text(x(value), bottom + 16, f"{value:g}".replace("-", MINUS), "tick", "middle"))
    if signed:
        parts.append(f'<path class="axis" d="M{x(0):g} {top}V{bottom}"/>')
    parts.append(text(RIGHT, bottom + 32, label, "label", "end"))
    for number, dot in enumerate(dots):
        place = top + step * number + 32
        parts.append(text(12, place - 15, clipped(dot.name, 36), f"name {dot.role}"))
        shown = f"{dot.value:{'+' if signed else ''}.{digits}f}"
        parts.append(text(RIGHT, place - 15, shown.replace("-", MINUS), f"name {dot.role}", "end"))
        parts.append(f'<path class="range {dot.role}" d="M{x(dot.low):g} {place}H{x(dot.high):g}"/>')
        within = f" (95 % interval {dot.low:.{digits}f} to {dot.high:.{digits}f})" if dot.low < dot.high else ""
        note = f"{dot.name}: {shown}{within}"
        parts.append(_mark(x(dot.value), place, dot.role, note))
    return drawing(title, height, parts)


def scatter(title: str, dots: Sequence[Dot], x_label: str, y_label: str, digits: int, height: int = 250) -> str:
    """Points named beside them, with intervals of their heights; logarithmic from left to right where that helps."""
    dots = drawable(dots)
    xs = [dot.x for dot in dots] or [0.0, 1.0]
    spread = min(xs) > 0 and max(xs) / min(xs) > 3
    # Points that cost nearly the same stand close together: an axis never stretches noise over the whole width.
    alike = [min(xs) * 0.75, max(xs) * 1.25] if max(xs) < 1.3 * min(xs) else []
    x = fitted(xs + alike, LEFT, RIGHT - 4, spread, room=0.18)
    y = fitted([end for dot in dots for end in (dot.low, dot.high)], height - 38, 28)
    parts = [frame(x, y, x_label + (" (log)" if spread else ""), y_label)]
    # Names first, so that none hides a point.
    names = placed_names([(x(dot.x), y(dot.value), dot.name) for dot in dots], (LEFT, RIGHT), (30, height - 42))
    for dot, name in zip(dots, names, strict=True):
        parts.append(text(name.x, name.y, name.text, f"name {dot.role}", name.anchor))
        if name.away(y(dot.value)):
            to = f"{name.x + (-2 if name.anchor == 'start' else 2):g} {name.y - 4:g}"
            parts.append(f'<path class="leader {dot.role}" d="M{x(dot.x):g} {y(dot.value):g}L{to}"/>')
    for dot in dots:
        parts.append(f'<path class="range {dot.role}" d="M{x(dot.x):g} {y(dot.low):g}V{y(dot.high):g}"/>')
        parts.append(_mark(x(dot.x), y(dot.value), dot.role, f"{dot.name}: {dot.value:.{digits}f} at {dot.x:,.4g}"))
    return drawing(title, height, parts)


def bars(title: str, rows: Sequence[tuple[str, float] | None], label: str) -> str:
    """Gains to the right of a line and losses to its left, one below another; None stands for rows left out."""
    step, top = 19, 6
    shown = [row for row in rows if row is not None]
    names = min(112, max((7 * len(name) for name, _ in shown), default=0))
    x = _two_sided([value for _, value in shown], names)
    parts = []
    for number, row in enumerate(rows):
        place = top + step * number
        if row is None:
            parts.append(text(names, place + 11, "\u22ee", "tick", "end"))
            continue
        name, value = row
        points, left = f"{value:+.1f}".replace("-", MINUS) if value else "0", min(x(value), x(0))
        shape = f'x="{left:g}" y="{place + 3}" width="{max(abs(x(value) - x(0)), 1):g}" height="{step - 6}" rx="2"'
        bar = f'<rect class="{"gain" if value > 0 else "loss"}" {shape}/>' if value else ""
        end, anchor = (x(value) + 5, "start") if value >= 0 else (x(value) - 5, "end")
        named = text(names, place + 13, clipped(name, 17), "tick name", "end")
        note = f"<title>{escape(name)}: {points}</title>"
        parts.append(f"<g>{note}{named}{bar}{text(end, place + 13, points, 'tick', anchor)}</g>")
    bottom = top + step * len(rows)
    parts.append(f'<path class="axis" d="M{x(0):g} {top}V{bottom}"/>')
    parts.append(text(RIGHT, bottom + 18, label, "label", "end"))
    return drawing(title, bottom + 24, parts)


def _two_sided(values: Sequence[float], names: float) -> Axis:
    """An axis around zero with as much room on either side as there are values, and some for the numbers."""
    low, high = min([0.0, *values]), max([0.0, *values])
    if low == high:
        high = 1.0
    return Axis(low, high, names + (54 if low < 0 else 10), RIGHT - (42 if high > 0 else 6))


def reliability(title: str, role: str, bins: Sequence[tuple[int, float, float]], height: int = 250) -> str:
    """Accuracy within each bin of confidence; the fuller a bin, the stronger its bar, and the diagonal is honesty.

    Args:
        title: read out by screen readers.
        role: whose it is.
        bins: from the lowest confidence to the highest: samples, their mean confidence, their accuracy.
        height: in pixels.
    """
    x, y = Axis(0, 100, LEFT, RIGHT - 4), Axis(0, 100, height - 38, 28)
    parts = [frame(x, y, "confidence %", "accuracy %")]
    total, wide = sum(count for count, _, _ in bins), (x.end - x.start) / len(bins)
    for number, (count, confidence, accuracy) in enumerate(bins):
        if count:
            strength = 0.25 + 0.75 * (count / total) ** 0.5
            high = y(0) - y(100 * accuracy)
            parts.append(
                f'<rect class="fill {role}" fill-opacity="{strength:.2f}" x="{x.start + number * wide + 1:.1f}" '
                f'y="{y(100 * accuracy):g}" width="{wide - 2:.1f}" height="{high:.1f}"><title>'
                f"{count} images, confidence {100 * confidence:.1f} %, accuracy {100 * accuracy:.1f} %</title></rect>"
            )
    parts.append(f'<path class="honest" d="M{x(0):g} {y(0):g}L{x(100):g} {y(100):g}"/>')
    return drawing(title, height, parts)


def _mark(x: float, y: float, role: str, note: str) -> str:
    return f'<circle class="dot {role}" cx="{x:g}" cy="{y:g}" r="5"><title>{escape(note)}</title></circle>'
