"""report.html: one file that opens offline, with the tables, the curves and who taught whom."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.util import find_spec
from typing import Any

from attar.report.curves import Line, chart
from attar.report.tables import Table

STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --paper: #ffffff; --line: #d5dde6; --soft: #5b6b7b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7edf3; --paper: #14191f; --line: #35414e; --soft: #9fb0c0; } }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem;
       margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.headline { font-size: 1.15rem; } .soft { color: var(--soft); }
.wide { overflow-x: auto; } svg { max-width: 100%; height: auto; background: #fff; border-radius: 8px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .8rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
pre { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; padding: .8rem; font-size: .85rem; }
"""


def page(
    title: str,
    sentence: str,
    tables: Sequence[Table],
    graph: str,
    records: list[dict[str, Any]],
    recipe: str,
    environment: str,
) -> str:
    """The report as one HTML page; every name that comes from the user is escaped."""
    parts = [f"<h1>{escape(title)}</h1>", f'<p class="headline">{escape(sentence)}</p>']
    parts += [f"<h2>{escape(table.title)}</h2><div class=wide>{_table(table)}</div>" for table in tables]
    parts += [f"<h2>{escape(name)}</h2>{drawing}" for name, drawing in _curves(records)]
    parts += [f"<h2>Who teaches whom</h2><div class=wide>{graph}</div>"]
    parts += [
        f"<h2>{name}</h2><pre>{escape(text)}</pre>" for name, text in (("Recipe", recipe), ("Environment", environment))
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _curves(records: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Accuracy over the epochs, and the loss of every edge; nothing where matplotlib is not installed."""
    if not records or find_spec("matplotlib") is None:
        return []
    epochs = [record["epoch"] for record in records]
    accuracy = [
        Line(label, epochs, [record[key] for record in records])
        for key, label in (("train_top1", "training"), ("val_top1", "validation"))
        if key in records[0]
    ]
    terms = [Line(key, epochs, [record["terms"][key] for record in records]) for key in records[0]["terms"]]
    drawn = [("Accuracy", chart(accuracy, "epoch", "top-1 %"))] if accuracy else []
    return [*drawn, ("What each edge taught", chart(terms, "epoch", "loss of the edge (log)", logarithmic=True))]
