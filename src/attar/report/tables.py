"""Tables of results, for the terminal, Markdown and CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

from rich import box
from rich.table import Table as RichTable


@dataclass(frozen=True)
class Table:
    """A table of strings: the first column names the row.

    >>> print(Table("Scores", ["net", "top-1"], [["student", "93.1"]]).markdown())
    | net | top-1 |
    |---|---:|
    | student | 93.1 |
    """

    title: str
    columns: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """GitHub's Markdown, numbers to the right."""
        lines = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        head, rule, *body = ("| " + " | ".join(line) + " |" for line in lines)
        return "\n".join([head, rule.replace(" ", ""), *body])

    def csv(self) -> str:
        """Comma-separated values with a header line."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.columns, *self.rows])
        return text.getvalue()

    def rich(self) -> RichTable:
        """A table for the terminal."""
        table = RichTable(
            title=self.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
        )
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="left" if number == 0 else "right", no_wrap=True)
        for row in self.rows:
            table.add_row(*row)
        return table
