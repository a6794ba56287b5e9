"""The methods as tables: all of them, and by family, as the command line, the README and the docs show them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

from attar.methods import method_info
from attar.methods.registry import Family
from attar.report.method_records import cost_texts, gain_text
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


def costs_table(names: Iterable[str], title: str = "") -> Table:
    """Each method's name, year and needs, what a step costs where kd's is 1, the parameters it trains beside the
    student's, its published gain over kd (and of how many pairs), and its title, which breaks in a narrow terminal.

    >>> costs_table(["dkd"]).rows[0][:3]
    ['dkd', '2022', 'logits']
    """
    columns = ["method", "year", "needs", "step", "extra", "gain", "what"]
    rows = []
    for info in map(method_info, names):
        figures = [*cost_texts(info.name), gain_text(info.name)]
        rows.append([info.name, str(info.year), ", ".join(info.needs), *figures, info.title])
    return Table(title, columns, rows, texts=len(columns))


def families_table(names: Iterable[str]) -> Table:
    """The methods of each family, in one row.

    >>> families_table(["kd", "dkd", "dml"]).rows
    [['offline', 'dkd, kd'], ['online', 'dml']]
    """
    infos = [method_info(name) for name in sorted(names)]
    rows = [[family, ", ".join(one.name for one in infos if one.family == family)] for family in get_args(Family)]
    return Table("", ["family", "methods"], [row for row in rows if row[1]], texts=2)
