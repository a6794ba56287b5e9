"""Tables of results, for the terminal, Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass, replace

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table as RichTable

LEAST_NAME, LEAST_TEXT, UNLIMITED = 16, 22, 10_000
# What LaTeX reads as something else.
LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': "''",
    "\u00b1": r"$\pm$",
    "\u00d7": r"$\times$",
    "\u2192": r"$\rightarrow$",
    "\u2212": "$-$",
}
# The smallest p-value that tables show as a number.
LEAST_P = 0.001


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
        head, rule, *body = ("| " + " | ".join(map(_markdown, line)) + " |" for line in lines)
        return "\n".join([head, rule.replace(" ", ""), *body])

    def compact(self) -> Table:
        """Without the columns of numbers that have no entry.

        >>> Table("", ["net", "top-1", "p"], [["a", "93.1", ""]]).compact().columns
        ['net', 'top-1']
        """
        kept = [n for n in range(len(self.columns)) if n < self.texts or any(row[n] for row in self.rows)]
        columns, rows = [self.columns[n] for n in kept], [[row[n] for n in kept] for row in self.rows]
        return replace(self, columns=columns, rows=rows)

    def latex(self) -> str:
        r"""A tabular with the rules of booktabs, numbers to the right; `->` becomes an arrow.

        >>> print(Table("Scores", ["net", "top-1 %"], [["a -> b", "93.1 \u00b1 0.2"]]).latex())
        \begin{tabular}{lr}
        \toprule
        net & top-1 \% \\
        \midrule
        a $\rightarrow$ b & 93.1 $\pm$ 0.2 \\
        \bottomrule
        \end{tabular}
        """
        head, *body = (" & ".join(map(_latex, line)) + r" \\" for line in [self.columns, *self.rows])
        # Behind the end of a row, a bracket or a star would be read as part of that.
        body = [f"{{}}{line}" if line.startswith(("[", "*")) else line for line in body]
        places = "l" * self.texts + "r" * (len(self.columns) - self.texts)
        rules = [rf"\begin{{tabular}}{{{places}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
        return "\n".join([*rules, r"\end{tabular}"])

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
        if not numbers:
            return [self._of_texts(console, options)]
        for tight in (False, True):
            whole = self._drawn(self.title, tight, list(numbers))
            if _width(console, options, whole) <= room:
                return [whole]
        # Names may break into lines, but no shorter than this.
        least = min(LEAST_NAME, _width(console, options, self._drawn("", True, [])))
        parts: list[list[int]] = [[]]
        for number in numbers:
            if parts[-1] and _width(console, options, self._drawn("", True, [*parts[-1], number], least)) > room:
                parts.append([])
            parts[-1].append(number)
        return [self._drawn("" if place else self.title, True, part) for place, part in enumerate(parts)]

    def _of_texts(self, console: Console, options: ConsoleOptions) -> RichTable:
        """A table whose last column breaks; where that has too little room, lists in the others break as well."""
        longest = max((len(row[-1]) for row in self.rows), default=0)
        if self._left_for_last(console, options, False) >= min(LEAST_TEXT, longest):
            return self._drawn(self.title, False, [])
        table, room = self._drawn(self.title, True, []), self._left_for_last(console, options, True)
        for number in range(1, len(self.columns) - 1):
            table.columns[number].max_width = max(len(line) for line in self._broken(number))
            table.columns[number].no_wrap = False
        table.columns[-1].width, table.columns[-1].overflow = max(room, LEAST_NAME // 2), "fold"
        return table

    def _left_for_last(self, console: Console, options: ConsoleOptions, tight: bool) -> int:
        """How wide the last column may be beside the others, their lists broken where the table is tight."""
        rows = [[*row[:-1], ""] for row in self.rows]
        if tight:
            inner = [self._broken(number) for number in range(1, len(self.columns) - 1)]
            rows = [[name, *(max(lines, key=len) for lines in inner), ""] for name, *_ in self.rows]
        others = replace(self, columns=[*self.columns[:-1], ""], rows=rows)
        return options.max_width - _width(console, options, others._drawn("", tight, []))

    def _broken(self, number: int) -> list[str]:
        """The lines of a column whose lists are broken behind their commas."""
        cells = [self.columns[number], *(row[number] for row in self.rows)]
        return [line for cell in cells for line in cell.replace(", ", ",\n").split("\n")]

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


def _markdown(text: str) -> str:
    """A cell as Markdown reads it: one line, its bars no ends of cells."""
    return one_line(text).replace("|", "\\|")


def one_line(text: str) -> str:
    """A text without line breaks, which would end a comment, a heading or a row.

    >>> one_line("the loss is nan\\nat step 3")
    'the loss is nan at step 3'
    """
    return " ".join(text.split())


def _latex(text: str) -> str:
    """A cell as LaTeX reads it; the minus of a number stands in mathematics, so that it is as long as a plus."""
    parts = ["".join(LATEX.get(sign, sign) for sign in part) for part in one_line(text).split("->")]
    return re.sub(r"(^| )-(?=\d)", r"\1$-$", r"$\rightarrow$".join(parts))


def p_text(p: float) -> str:
    """A p-value as tables show it: three decimals, and never 0.

    >>> p_text(0.0312), p_text(2e-7)
    ('0.031', '< 0.001')
    """
    return f"< {LEAST_P}" if p < LEAST_P else f"{p:.3f}"


def p_phrase(p: float) -> str:
    """The same in a sentence.

    >>> p_phrase(0.0312), p_phrase(2e-7)
    ('p = 0.031', 'p < 0.001')
    """
    return f"p {p_text(p)}" if p < LEAST_P else f"p = {p_text(p)}"
