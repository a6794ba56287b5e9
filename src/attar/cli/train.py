"""`attar distill`, `train` and `bench`; `resume` continues a run, `replay` explains one that failed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from attar.cli.arguments import Plugin, RecipeArguments, RecipeCommand, split_arguments
from attar.cli.entry import MISTAKE, app, console, loading
from attar.plugins import import_files, imported_files


@app.command(cls=RecipeCommand, short_help="Distil a small network from a large one.")
def distill(arguments: RecipeArguments = None, plugins: Plugin = None) -> None:
    """Distil a small network from a large one.

    Give a recipe file, keys, or both. With neither, the packaged recipe digits runs on the data it contains.

    attar distill teacher=resnet56 teacher.weights=resnet56.pth student=resnet20 data=cifar100 data.root=data method=kd
    """
    with loading():
        from attar.experiments import launch
        from attar.recipe import read_recipe

    file, overrides = split_arguments(arguments)
    if file is None and not any(override.startswith(("student", "chain=")) for override in overrides):
        file = "digits"
    show(launch.start(read_recipe(file, overrides), console, beside=_beside(), file=file))


@app.command(cls=RecipeCommand, short_help="Train a network on the labels alone.")
def train(arguments: RecipeArguments = None, plugins: Plugin = None) -> None:
    """Train a network on the labels alone: a teacher, or a baseline.

    attar train student=resnet56 data=cifar100 data.root=data epochs=30
    """
    with loading():
        from attar import api
        from attar.experiments import launch
        from attar.recipe import read_recipe

    file, overrides = split_arguments(arguments)
    show(launch.start(api.plain(read_recipe(file, overrides)), console, beside=_beside(), file=file))


@app.command(short_help="Compare methods over pairs and seeds.")
def bench(
    suite: Annotated[Path, typer.Argument(metavar="SUITE.yaml", help="Methods, pairs, seeds and the common recipe.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Changes to the common recipe; out=, jobs=."),
    ] = None,
    plugins: Plugin = None,
) -> None:
    r"""Compare methods over pairs of networks and seeds, a run folder each; finished runs are not done again.

    A suite: methods: \[kd, {name: dkd, beta: 2}], pairs: [{teacher: resnet56, student: resnet20}], seeds: 3, and
    recipe: with any other keys of a recipe for all runs. The table is in table.md and table.csv of the suite's folder.

    jobs=2 runs two at a time (default: found by trying).
    """
    with loading():
        from attar.experiments.bench import read_suite

    bench = read_suite(suite, overrides or [], console)
    bench.prepare = _beside()
    console.print(bench.run())


@app.command(short_help="Continue an interrupted run.")
def resume(
    run: Annotated[Path, typer.Argument(help="The run's folder.")],
    accept_changes: Annotated[
        bool, typer.Option("--accept-changes", help="Go on with other data or weights than the run began with.")
    ] = False,
    plugins: Plugin = None,
) -> None:
    """Continue an interrupted run exactly where it stopped; a finished run prints its table again.

    A run whose data or given weights have changed since it began is refused.
    """
    with loading():
        from attar.experiments import launch

    show(launch.resume(run, console, _beside(), accept_changes))


@app.command(short_help="Find the non-finite value that stopped a run.")
def replay(
    failure: Annotated[Path, typer.Argument(help="The failure.pt that the run's message names.")],
    plugins: Plugin = None,
) -> None:
    """Run the batch that stopped a run again: the loss of each edge, and the first non-finite value."""
    with loading():
        from attar.experiments.replay import replay as explain_failure

    explain_failure(failure, console)


def _beside() -> Callable[[], object]:
    """What every further process of a run does first: import the same files."""
    return partial(import_files, imported_files())


def show(summary: Any) -> None:
    """The tables and the headline of a finished job; status 2 where a seed failed."""
    from attar.deploy import read_export
    from attar.report.exports import export_table

    for table in (summary.score_table(), summary.cost_table()):
        console.print(table)
    console.print(summary.sentence(), markup=False)
    for line in summary.hints():
        console.print(line, markup=False)
    if exported := read_export(summary.folder / "export"):
        console.print(export_table(exported))
    report = f"Report: {summary.report}\n" if summary.report.exists() else ""
    console.print(f"{report}Student: {summary.student}", markup=False, soft_wrap=True)
    if summary.failed:
        raise typer.Exit(MISTAKE)
