"""The table of methods, as the command line prints it and the README holds it."""

from __future__ import annotations

from collections.abc import Iterable

from attar.methods import method_info
from attar.report.tables import Table


def methods_table(names: Iterable[str], papers: bool = False) -> Table:
    """Each method's name, year, family, what it needs of the networks, and title; optionally where it was published.

    >>> methods_table(["kd"]).rows
    [['kd', '2015', 'offline', 'logits', 'Knowledge Distillation']]
    """
    columns, rows = ["method", "year", "family", "needs", "what"], []
    for info in map(method_info, names):
        row = [info.name, str(info.year), info.family, ", ".join(info.needs), info.title]
        rows.append([*row, info.paper] if papers else row)
    columns += ["paper"] if papers else []
    return Table("", columns, rows, texts=len(columns))
