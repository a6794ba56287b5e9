"""Pieces of a page, and the page itself: one file that opens offline. Every text given as a text is escaped."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from urllib.parse import quote

from attar.report.axes import MINUS
from attar.report.style import STYLE
from attar.report.tables import Table

# From more columns on, a table is drawn denser; a tile's number of more letters is drawn smaller, in one line.
MOST_WIDE = 11
MOST_BIG = 9


def document(title: str, body: str, footer: str) -> str:
    """A whole page around HTML.

    >>> document("a <b>", "<p>hello</p>", "").count("<b>")
    0
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>\n{body}\n"
        f"<footer>{escape(footer)}</footer>\n</main></body></html>\n"
    )


def header(over: str, title: str, sentence: str) -> str:
    """What a reader sees first."""
    return (
        f'<header><p class="over">{escape(over)}</p><h1>{escape(title)}</h1>'
        f'<p class="headline">{escape(typeset(sentence))}</p></header>'
    )


def typeset(content: str) -> str:
    """True minus signs, and no line break within a difference or before a %.

    >>> typeset("a - b: -0.25") == "a\\u00a0\\u2212\\u00a0b: \\u22120.25"
    True
    """
    content = re.sub(r"(^| )-(?=\d)", rf"\1{MINUS}", content.replace(" - ", f"\u00a0{MINUS}\u00a0"))
    return content.replace("p = ", "p\u00a0=\u00a0").replace(" %", "\u00a0%")


def section(title: str, lede: str, *parts: str) -> str:
    """A heading, a line on how to read what follows, and HTML; nothing where there is nothing to show."""
    body = "\n".join(filter(None, parts))
    lead = f'<p class="lede">{escape(lede)}</p>' if lede else ""
    return f"<section><h2>{escape(title)}</h2>{lead}{body}</section>" if body else ""


def grid(parts: Sequence[str]) -> str:
    """Pieces of HTML side by side, as many as there is room for."""
    return f'<div class="grid">{"".join(parts)}</div>' if any(parts) else ""


def figure(caption: str, note: str, drawing: str) -> str:
    """A drawing under its name and a softer line."""
    below = f"<span>{escape(note)}</span>" if note else ""
    return f"<figure><figcaption><b>{escape(caption)}</b>{below}</figcaption>{drawing}</figure>"


def table(content: Table, roles: Sequence[str] = ()) -> str:
    """A table that scrolls by itself where the page is narrow; a row may have a role for its class.

    A column without any entry is left out.
    """
    kept = [n for n in range(len(content.columns)) if any(row[n] for row in content.rows)]
    head = "".join(_cell("th", content.columns[n], n < content.texts) for n in kept)
    body = []
    for number, row in enumerate(content.rows):
        kind = f' class="{roles[number]}"' if number < len(roles) and roles[number] else ""
        cells = "".join(_cell("td", row[n], n < content.texts) for n in kept)
        body.append(f"<tr{kind}>{cells}</tr>")
    # The class stands around the table: documentation sites style only tables without one.
    kind = "wide dense" if len(kept) > MOST_WIDE else "wide"
    return f'<div class="{kind}"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def heat_table(content: Table, shares: Sequence[Sequence[float]]) -> str:
    """A table of numbers behind its first column, the ground of each as strong as its share from 0 to 1."""
    head = "".join(_cell("th", name, n == 0) for n, name in enumerate(content.columns))
    body = []
    for row, strengths in zip(content.rows, shares, strict=True):
        cells = "".join(
            f'<td style="--share:{100 * share:.0f}%">{escape(value)}</td>'
            for value, share in zip(row[1:], strengths, strict=True)
        )
        body.append(f"<tr>{_cell('td', row[0], True)}{cells}</tr>")
    rows = f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"
    return f'<div class="wide"><table class="heat">{rows}</table></div>'


def _cell(tag: str, content: str, is_text: bool) -> str:
    return f"<{tag}{' class=text' if is_text else ''}>{escape(typeset(content))}</{tag}>"


def notes(lines: Sequence[str]) -> str:
    """Lines that a reader should not overlook."""
    return "".join(f'<p class="note">{escape(typeset(line))}</p>' for line in lines)


def tiles(facts: Sequence[tuple[str, str, str]], key: int | None) -> str:
    """The few numbers that matter most: what, the number, and what it is made of; the key one, if any, in colour."""
    parts = []
    for place, (what, value, note) in enumerate(facts):
        kind = "big" + " main" * (place == key) + " long" * (len(value) > MOST_BIG)
        entry = (f"<dt>{escape(what)}</dt>", f'<dd class="{kind}">{escape(value)}</dd>', f"<dd>{escape(note)}</dd>")
        parts.append(f"<div>{''.join(entry)}</div>")
    return f'<dl class="tiles">{"".join(parts)}</dl>'


def pair(left: str, right: str) -> str:
    """A figure and what is wider than it, side by side where there is room."""
    return f'<div class="pair">{left}{right}</div>'


def legend(roles: Mapping[str, str]) -> str:
    """A coloured dot for each role with its name."""
    keys = [f'<span class="key {role}"><i></i>{escape(name)}</span>' for role, name in roles.items()]
    return f'<p class="lede">{"".join(keys)}</p>'


def code(text: str) -> str:
    """Text as it is typed."""
    return f"<pre>{escape(text.strip())}</pre>"


def link(place: str, text: str) -> str:
    """A line that leads to a file beside the page."""
    return f'<p class="link"><a href="{escape(quote(place))}">{escape(text)}</a></p>'


def facts(pairs: Mapping[str, str]) -> str:
    """Names and what they stand for."""
    return (
        '<dl class="facts">' + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in pairs.items()) + "</dl>"
    )
