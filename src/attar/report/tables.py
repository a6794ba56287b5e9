"""Tables of results, for the terminal, Markdown and CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table as RichTable

LEAST_NAME, UNLIMITED = 16, 10_000


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

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table for the terminal; where it is too narrow, in parts that repeat the first column: no digit is lost.

        >>> wide = Table("", ["net", "top-1", "top-5"], [["student", "93.1", "99.0"]])
        >>> import io
        >>> Console(width=18, file=(file := io.StringIO())).print(wide)
        >>> [line.split() for line in file.getvalue().splitlines() if "e" in line or "9" in line]
        [['net', 'top-1'], ['student', '93.1'], ['net', 'top-5'], ['student', '99.0']]
        """
        yield from self._parts(console, options)

    def _parts(self, console: Console, options: ConsoleOptions) -> list[RichTable]:
        room, numbers = options.max_width, range(self.texts, len(self.columns))
        for tight in (False, True):
            whole = self._drawn(self.title, tight, list(numbers))
            if not numbers or _width(console, options, whole) <= room:
                return [whole]
        # Names may break into lines, but no shorter than this.
        least = min(LEAST_NAME, _width(console, options, self._drawn("", True, [])))
        parts: list[list[int]] = [[]]
        for number in numbers:
            if parts[-1] and _width(console, options, self._drawn("", True, [*parts[-1], number], least)) > room:
                parts.append([])
            parts[-1].append(number)
        return [self._drawn("" if place else self.title, True, part) for place, part in enumerate(parts)]

    def _drawn(self, title: str, tight: bool, numbers: list[int], name: int | None = None) -> RichTable:
        """The columns of text and some of numbers; `name`: the width of the first column, in which it breaks."""
        table = RichTable(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
        if tight:
            table.padding = (0, 1, 0, 0)
        shown = [*range(self.texts), *numbers]
        for number in shown:
            text = number < self.texts
            # Long names break, and the last column of a table of texts.
            breaks = (number == 0 and tight) or (text and number == len(self.columns) - 1)
            table.add_column(
                self.columns[number],
                justify="left" if text else "right",
                no_wrap=not breaks,
                overflow="fold" if breaks and number == 0 else "ellipsis",
                width=name if number == 0 else None,
            )
        for row in self.rows:
            table.add_row(*(row[number] for number in shown))
        return table


def _width(console: Console, options: ConsoleOptions, table: RichTable) -> int:
    """How wide a table wants to be."""
    return console.measure(table, options=options.update(max_width=UNLIMITED)).maximum
