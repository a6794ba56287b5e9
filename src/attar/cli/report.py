"""`attar report` makes a run's page anew, `compare` puts several side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from attar.cli.arguments import Plugin
from attar.cli.entry import app, console


@app.command(short_help="Make the report of a finished run anew.")
def report(run: Annotated[Path, typer.Argument(help="The run's folder.")], plugins: Plugin = None) -> None:
    """Make report.html of a finished run anew, from the files in its folder alone, without data or weights."""
    from attar.report.run_page import write_report

    console.print(f"Report: {write_report(run)}", markup=False, soft_wrap=True)


@app.command(short_help="Put finished runs side by side.")
def compare(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="RUN... [out=FILE.html]", help="Folders of finished runs; the first is the baseline."),
    ],
    plugins: Plugin = None,
) -> None:
    """Put finished runs side by side: a table, accuracy against cost, curves, and differences where seeds coincide.

    The page is compare.html unless out= names another; the table lies beside it as .md and .csv.

    attar compare runs/supervised-resnet20-cifar100 runs/kd-resnet56-resnet20-cifar100
    """
    from attar import api
    from attar.errors import unknown
    from attar.recipe import parse

    keys: dict[str, Any] = {}
    for word in (word for word in arguments if is_key(word)):
        keys |= parse(word)
    if strange := keys.keys() - {"out"}:
        raise unknown("key", strange.pop(), ["out"])
    found = api.compare(*[word for word in arguments if not is_key(word)], out=str(keys.get("out", "compare.html")))
    for content in (found.short_table(), found.gap_table()):
        if content.rows:
            table = content.rich()
            # Folders have long names; the numbers must stay whole.
            table.columns[0].no_wrap, table.columns[0].overflow = False, "fold"
            console.print(table)
    console.print(f"Report: {found.report}", markup=False, soft_wrap=True)


def is_key(word: str) -> bool:
    """Whether a word sets a key; folders of runs may have an = in their names, too."""
    return "=" in word and not Path(word).is_dir()
