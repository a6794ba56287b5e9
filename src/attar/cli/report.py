"""`attar report` writes a run's page again, `compare` compares several runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from attar.cli.arguments import Plugin
from attar.cli.entry import app, console, loading


@app.command(short_help="Write the report of a finished run again.")
def report(run: Annotated[Path, typer.Argument(help="The run's folder.")], plugins: Plugin = None) -> None:
    """Write report.html of a finished run again, from the files in its folder; data and weights are not needed.

    Of a suite, its folder writes the page and all tables again.
    """
    with loading():
        from attar.report.bench_files import is_bench
        from attar.report.bench_page import rewrite_bench
        from attar.report.run_page import write_report

    page = rewrite_bench(run) if is_bench(run) else write_report(run)
    console.print(f"Report: {page}", markup=False, soft_wrap=True)


@app.command(short_help="Compare finished runs.")
def compare(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="RUN... [out=FILE.html]", help="Folders of finished runs; the first is the baseline."),
    ],
    plugins: Plugin = None,
) -> None:
    """Compare finished runs: a table, accuracy against cost, curves, and paired differences over shared seeds.

    The folder of a suite stands for all entries of its table, each with its seeds, the control first. The page is
    compare.html, or what out= names; the table is written beside it as .md and .csv.

    attar compare runs/supervised-resnet20-cifar100 runs/kd-resnet56-resnet20-cifar100
    """
    with loading():
        from attar import api
        from attar.errors import unknown
        from attar.recipe import parse

    keys: dict[str, Any] = {}
    for pair in filter(is_key, arguments):
        keys |= parse(pair)
    if strange := keys.keys() - {"out"}:
        raise unknown("key", strange.pop(), ["out"])
    found = api.compare(
        *[folder for folder in arguments if not is_key(folder)], out=str(keys.get("out", "compare.html"))
    )
    for content in (found.short_table(), found.gap_table()):
        if content.rows:
            console.print(content)
    for hint in found.hints():
        console.print(hint, markup=False)
    console.print(f"Report: {found.report}", markup=False, soft_wrap=True)


def is_key(argument: str) -> bool:
    """Whether an argument sets a key; a folder of a run may have an = in its name, too."""
    return "=" in argument and not Path(argument).is_dir()
