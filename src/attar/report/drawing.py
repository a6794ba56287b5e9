"""The graph of who teaches whom as an SVG picture that needs no program to draw."""

from __future__ import annotations

from collections import defaultdict
from html import escape

from attar.knowledge import Graph, Transfer, owner

BOX_WIDTH, BOX_HEIGHT = 132, 44
COLUMN, ROW = 400, 118
MARGIN = 24
LINE = 17  # between the labels of parallel edges


def svg(graph: Graph) -> str:
    """The graph as SVG text: an arrow runs from who teaches to who learns, with two heads where both learn.

    >>> svg(Graph(())).startswith("<svg")
    True
    """
    places = _places(graph)
    pairs: dict[tuple[str, str], list[Transfer]] = defaultdict(list)
    for edge in graph.edges:
        pairs[owner(edge.source), owner(edge.target)].append(edge)
    width = 2 * MARGIN + BOX_WIDTH + max((x for x, _ in places.values()), default=0)
    loops = any(source == target for source, target in pairs)
    height = 2 * MARGIN + BOX_HEIGHT + max((y for _, y in places.values()), default=0) + (60 if loops else 0)
    parts = [_arrows(graph, ends, edges, places) for ends, edges in pairs.items()]
    parts += [_box(name, *place) for name, place in places.items()]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="12">\n'
        '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
        'orient="auto-start-reverse"><path d="M0 0 10 5 0 10z" fill="#4a6fa5"/></marker></defs>\n'
        '<rect width="100%" height="100%" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _places(graph: Graph) -> dict[str, tuple[int, int]]:
    """Each object's corner: a column further right than everybody who teaches it, one below another in a column."""
    columns = dict.fromkeys(graph.nodes, 0)
    links = [(owner(edge.source), owner(edge.target)) for edge in graph.edges]
    for _ in columns:  # longest path; objects that teach each other stay in one column
        for source, target in links:
            if source != target and (target, source) not in links:
                columns[target] = min(max(columns[target], columns[source] + 1), len(columns))
    rows: dict[int, int] = defaultdict(int)
    places = {}
    for name, column in columns.items():
        # A half-step down in every other column keeps straight arrows from running through boxes.
        places[name] = (column * COLUMN, rows[column] * ROW + (column % 2) * ROW // 2)
        rows[column] += 1
    return places


def _box(name: str, x: int, y: int) -> str:
    fill = "#fff4de" if name == "labels" else "#e8f0fb"
    return (
        f'<g transform="translate({x + MARGIN} {y + MARGIN})"><rect width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8" '
        f'fill="{fill}" stroke="#4a6fa5"/><text x="{BOX_WIDTH // 2}" y="{BOX_HEIGHT // 2 + 5}" text-anchor="middle" '
        f'font-size="14" font-weight="600" fill="#1c2733">{escape(name)}</text></g>'
    )


def _arrows(graph: Graph, ends: tuple[str, str], edges: list[Transfer], places: dict[str, tuple[int, int]]) -> str:
    """One arrow for a pair of objects, with a label for each of its edges."""
    (x1, y1), (x2, y2) = ((x + MARGIN, y + MARGIN + BOX_HEIGHT / 2) for x, y in (places[end] for end in ends))
    start = ' marker-start="url(#head)"' if any(edge.learns == "both" for edge in edges) else ""
    if ends[0] == ends[1]:
        left, right, low = x1 + BOX_WIDTH / 3, x1 + 2 * BOX_WIDTH / 3, y1 + BOX_HEIGHT / 2
        path, middle = (
            f"M{left} {low} C{left} {low + 60} {right} {low + 60} {right} {low}",
            (x1 + BOX_WIDTH / 2, low + 58),
        )
    elif x1 == x2:  # in one column: a bow on the side that belongs to this direction
        side = 1 if y1 < y2 else -1
        edge_x = x1 + (BOX_WIDTH if side > 0 else 0)
        bow = edge_x + side * 70
        path = f"M{edge_x} {y1} C{bow} {y1} {bow} {y2} {edge_x} {y2}"
        middle = (edge_x + side * 62, (y1 + y2) / 2)
    else:
        path, middle = f"M{x1 + BOX_WIDTH} {y1} L{x2} {y2}", ((x1 + BOX_WIDTH + x2) / 2, (y1 + y2) / 2)
    labels = "".join(
        f'<text x="{middle[0]}" y="{middle[1] + LINE * (n - (len(edges) - 1) / 2) + 4}" text-anchor="middle" '
        f'fill="#1c2733" stroke="#ffffff" stroke-width="4" paint-order="stroke">{escape(graph.label(edge))}</text>'
        for n, edge in enumerate(edges)
    )
    return f'<path d="{path}" fill="none" stroke="#4a6fa5" stroke-width="1.6" marker-end="url(#head)"{start}/>{labels}'
