"""Tables of results, for the terminal, Markdown and CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

from rich import box
from rich.table import Table as RichTable


@dataclass(frozen=True)
class Table:
    """A table of strings: columns of text first, then columns of numbers.

    Attributes:
        title: what stands above it.
        columns: the heads.
        rows: the cells.
        texts: how many columns are text, which stands to the left.

    >>> print(Table("Scores", ["net", "top-1"], [["student", "93.1"]]).markdown())
    | net | top-1 |
    |---|---:|
    | student | 93.1 |
    """

    title: str
    columns: list[str]
    rows: list[list[str]]
    texts: int = 1

    def markdown(self) -> str:
        """GitHub's Markdown, numbers to the right."""
        rules = ["---" if number < self.texts else "---:" for number in range(len(self.columns))]
        lines = [self.columns, rules, *self.rows]
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
            last = number == len(self.columns) - 1
            table.add_column(column, justify="left" if number < self.texts else "right", no_wrap=not last)
        for row in self.rows:
            table.add_row(*row)
        return table
