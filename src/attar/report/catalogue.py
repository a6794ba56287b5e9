"""The methods as tables: all of them, and by family, as the command line, the README and the docs show them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

from attar.methods import method_info
from attar.methods.registry import Family
from attar.report.tables import Table


def methods_table(names: Iterable[str], papers: bool = False, title: str = "") -> Table:
    """Each method's name, year, family, what it needs of the networks, and title; optionally where it was published.

    >>> methods_table(["kd"]).rows
    [['kd', '2015', 'offline', 'logits', 'Knowledge Distillation']]
    """
    columns, rows = ["method", "year", "family", "needs", "what"], []
    for info in map(method_info, names):
        row = [info.name, str(info.year), info.family, ", ".join(info.needs), info.title]
        rows.append([*row, info.paper] if papers else row)
    columns += ["paper"] if papers else []
    return Table(title, columns, rows, texts=len(columns))


def families_table(names: Iterable[str]) -> Table:
    """The methods of each family, in one row.

    >>> families_table(["kd", "dkd", "dml"]).rows
    [['offline', 'dkd, kd'], ['online', 'dml']]
    """
    infos = [method_info(name) for name in sorted(names)]
    rows = [[family, ", ".join(one.name for one in infos if one.family == family)] for family in get_args(Family)]
    return Table("", ["family", "methods"], [row for row in rows if row[1]], texts=2)
