"""The drawing in a run's folder, made safe to stand in a page: the folder may come from somebody else."""

from __future__ import annotations

import re
from xml.etree import ElementTree

NAMESPACE = "http://www.w3.org/2000/svg"
MOST_CHARACTERS = 2**20
# All that `attar.report.drawing.svg` writes.
ELEMENTS = {"svg", "g", "defs", "marker", "path", "rect", "text", "title"}
ATTRIBUTES = {
    "viewBox", "width", "height", "font-family", "font-size", "id", "refX", "refY", "markerWidth", "markerHeight",
    "orient", "d", "x", "y", "rx", "fill", "stroke", "stroke-width", "paint-order", "text-anchor", "style",
    "marker-end", "marker-start", "transform", "font-weight",
}  # fmt: skip
# A reference to something outside the drawing, or an escape that could hide one.
OUTSIDE = re.compile(r"url\((?!#)|@|\\|expression|javascript:", re.IGNORECASE)


def safe_svg(text: str) -> str:
    """An SVG drawing written again from its elements; "" if it holds anything that our drawings do not.

    >>> safe_svg("<svg><title>a</title></svg>")
    '<svg><title>a</title></svg>'
    >>> safe_svg("<svg onload='alert(1)'/>")
    ''
    """
    # A document type may define entities that grow without bound.
    if not text.startswith("<svg") or len(text) > MOST_CHARACTERS or "<!" in text:
        return ""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return ""
    if not all(_is_ours(element) for element in root.iter()):
        return ""
    ElementTree.register_namespace("", NAMESPACE)
    return ElementTree.tostring(root, encoding="unicode")


def _is_ours(element: ElementTree.Element) -> bool:
    if not isinstance(element.tag, str) or element.tag.removeprefix(f"{{{NAMESPACE}}}") not in ELEMENTS:
        return False
    return all(name in ATTRIBUTES and not OUTSIDE.search(value) for name, value in element.attrib.items())
