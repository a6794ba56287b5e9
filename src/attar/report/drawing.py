"""The graph of who teaches whom as an SVG picture that needs no program to draw.

Inside a page it takes the page's colours, alone its own.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from html import escape

from attar.knowledge import Graph, Transfer, owner

BOX_HEIGHT = 44
GAP, ROW = 320, 118
MARGIN = 24
LINE = 17  # between the labels of parallel edges
LETTER, SMALL_LETTER = 8.5, 6.6  # the width of a letter in a box, and in a label
BOW, WIDER = 48, 44  # how far arrows within a column swing out: those that run down, and more for those that run up
NOTE = 190  # room for a label beside such an arrow
CLEAR = 8  # between a label and the boxes at its arrow's ends
# Colours: a page's where it has some.
INK, PAPER, RIM = "var(--ink,#1c2733)", "var(--paper,#ffffff)", "var(--mid,#4a6fa5)"


@dataclass(frozen=True)
class Label:
    """A line of text at an arrow: where it is anchored, and how ("middle" or "start")."""

    text: str
    x: float
    y: float
    anchor: str

    def beside(self, other: Label) -> bool:
        """Whether the two overlap from left to right."""
        (low, high), (least, most) = self._span(), other._span()
        return low < most and least < high

    def between(self, left: float, right: float) -> Label:
        """The label moved sideways until it is clear of both."""
        half = self.width / 2 + CLEAR
        return replace(self, x=max(left + half, min(self.x, right - half)))

    @property
    def width(self) -> float:
        """About how wide it is."""
        return SMALL_LETTER * len(self.text)

    def _span(self) -> tuple[float, float]:
        start = self.x - self.width / 2 if self.anchor == "middle" else self.x
        return start, start + self.width


def svg(graph: Graph) -> str:
    """The graph as SVG text: an arrow runs from who teaches to who learns, with two heads where both learn.

    >>> svg(Graph(())).startswith("<svg")
    True
    """
    pairs: dict[tuple[str, str], list[Transfer]] = defaultdict(list)
    for edge in graph.edges:
        pairs[owner(edge.source), owner(edge.target)].append(edge)
    box = max([132, *(round(LETTER * len(name)) + 24 for name in graph.nodes)])
    places = _places(graph, box)
    beside = any(places[one][0] == places[other][0] and one != other for one, other in pairs)
    below = any(one == other for one, other in pairs)
    width = 2 * MARGIN + box + max((x for x, _ in places.values()), default=0) + (BOW + WIDER + NOTE if beside else 0)
    height = 2 * MARGIN + BOX_HEIGHT + max((y for _, y in places.values()), default=0) + (60 if below else 0)
    arrows = [_arrow(graph, ends, edges, places, box) for ends, edges in pairs.items()]
    parts = [line for line, _ in arrows] + _labels([label for _, labels in arrows for label in labels])
    parts += [_box(name, *place, box) for name, place in places.items()]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="12">\n'
        '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
        'orient="auto-start-reverse"><path d="M0 0 10 5 0 10z" style="fill:' + RIM + '"/></marker></defs>\n'
        '<rect width="100%" height="100%" style="fill:' + PAPER + '"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _places(graph: Graph, box: int) -> dict[str, tuple[int, int]]:
    """Each object's corner: a column further right than everybody who teaches it, one below another in a column."""
    columns = dict.fromkeys(graph.nodes, 0)
    links = [(owner(edge.source), owner(edge.target)) for edge in graph.edges]
    for _ in columns:  # longest path; objects that teach each other stay in one column
        for source, target in links:
            if source != target:
                further = (target, source) not in links
                columns[target] = min(max(columns[target], columns[source] + further), len(columns))
    rows: dict[int, int] = defaultdict(int)
    places, longest = {}, max((len(graph.label(edge)) for edge in graph.edges), default=0)
    gap = max(GAP, round(SMALL_LETTER * longest) + 2 * CLEAR)
    for name, column in columns.items():
        # A half-step down in every other column keeps straight arrows from running through boxes.
        places[name] = (column * (box + gap), rows[column] * ROW + (column % 2) * ROW // 2)
        rows[column] += 1
    return places


def _box(name: str, x: int, y: int, width: int) -> str:
    fill = {"labels": "var(--paper,#fff4de)", "student": "var(--wash,#e8f0fb)"}.get(name, "var(--card,#e8f0fb)")
    return (
        f'<g transform="translate({x + MARGIN} {y + MARGIN})"><rect width="{width}" height="{BOX_HEIGHT}" rx="8" '
        f'style="fill:{fill};stroke:{RIM}"/><text x="{width // 2}" y="{BOX_HEIGHT // 2 + 5}" text-anchor="middle" '
        f'font-weight="600" style="fill:{INK};font-size:14px">{escape(name)}</text></g>'
    )


def _arrow(
    graph: Graph, ends: tuple[str, str], edges: list[Transfer], places: dict[str, tuple[int, int]], box: int
) -> tuple[str, list[Label]]:
    """One arrow for a pair of objects, and a label for each of its edges."""
    (x1, y1), (x2, y2) = ((x + MARGIN, y + MARGIN + BOX_HEIGHT / 2) for x, y in (places[end] for end in ends))
    anchor, right = "middle", x1 + box
    if ends[0] == ends[1]:
        first, second, low = x1 + box / 3, x1 + 2 * box / 3, y1 + BOX_HEIGHT / 2
        path, middle = (
            f"M{first} {low} C{first} {low + 60} {second} {low + 60} {second} {low}",
            (x1 + box / 2, low + 58),
        )
    elif x1 == x2:
        down = y1 < y2
        bow = right + (BOW if down else BOW + WIDER)
        path, anchor = f"M{right} {y1} C{bow} {y1} {bow} {y2} {right} {y2}", "start"
        middle = (right + 0.75 * (bow - right) + 6, (y1 + y2) / 2 + (-9 if down else 9))
    else:
        # The labels teach nearly everybody: their notes stay apart near the learner, the others' near the teacher.
        along = 0.68 if ends[0] == "labels" else 0.35
        path, middle = f"M{right} {y1} L{x2} {y2}", (right + along * (x2 - right), y1 + along * (y2 - y1))
    start = ' marker-start="url(#head)"' if any(edge.learns == "both" for edge in edges) else ""
    labels = [
        Label(graph.label(edge), middle[0], middle[1] + LINE * (n - (len(edges) - 1) / 2) + 4, anchor)
        for n, edge in enumerate(edges)
    ]
    if x1 < x2:
        labels = [label.between(right, x2) for label in labels]
    line = f'<path d="{path}" fill="none" style="stroke:{RIM}" stroke-width="1.6" marker-end="url(#head)"{start}/>'
    return line, labels


def _labels(labels: list[Label]) -> list[str]:
    """The labels of all arrows, from the top; one that would cover another moves below it."""
    placed: list[Label] = []
    for label in sorted(labels, key=lambda one: (one.y, one.x)):
        for other in placed:
            if label.beside(other) and abs(label.y - other.y) < LINE:
                label = replace(label, y=other.y + LINE)
        placed.append(label)
    return [
        f'<text x="{one.x}" y="{one.y}" text-anchor="{one.anchor}" '
        f'style="fill:{INK};stroke:{PAPER};font-size:12px" stroke-width="4" paint-order="stroke">'
        f"{escape(one.text)}</text>"
        for one in placed
    ]
