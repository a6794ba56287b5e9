"""`attar distill`, `train` and `bench`; `resume` continues a run, `replay` explains one that failed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from attar.cli.arguments import Plugin, RecipeArguments, RecipeCommand, TrainCommand, split_arguments
from attar.cli.entry import MISTAKE, app, console, loading
from attar.errors import AttarError
from attar.plugins import import_files, import_named, imported_files


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
    keys = keys_of(file, overrides)
    show(launch.start(read_recipe(file, overrides), console, beside=_beside(), file=file, keys=keys))


@app.command(cls=TrainCommand, short_help="Train a network on the labels alone.")
def train(arguments: RecipeArguments = None, plugins: Plugin = None) -> None:
    """Train a network on the labels alone: a teacher, or a baseline.

    attar train student=resnet56 data=cifar100 data.root=data epochs=30
    """
    with loading():
        from attar import api
        from attar.experiments import launch
        from attar.recipe import given_keys, read_recipe

    file, overrides = split_arguments(arguments)
    keys = keys_of(file, overrides)
    recipe = api.plain(read_recipe(file, overrides), given_keys(None, overrides))
    show(launch.start(recipe, console, beside=_beside(), file=file, keys=keys))


def keys_of(file: str | None, overrides: list[str]) -> set[str]:
    """The recipe's keys that the command line gives; the modules whose functions it names are imported."""
    from attar.recipe import given_keys, parse

    import_named([parse(override) for override in overrides])
    return given_keys(file, overrides)


@app.command(short_help="Compare methods over pairs and seeds.")
def bench(
    suite: Annotated[Path, typer.Argument(metavar="SUITE.yaml", help="Methods, pairs, seeds and the common recipe.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Changes to the common recipe; out=, jobs=, share=K/N, submit=N."
        ),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            "--against",
            metavar="NAME",
            help="Compare with this row (default: the suite's control, else the first); literature adds published "
            "numbers. May be repeated.",
        ),
    ] = None,
    search: Annotated[
        int | None,
        typer.Option("--search", metavar="N", help="N trials of each method's search key, scored on validation data."),
    ] = None,
    plugins: Plugin = None,
) -> None:
    r"""Compare methods over pairs of networks and seeds, a run folder each; finished runs are not done again.

    A suite: methods: \[kd, {name: dkd, beta: \[2, 8], optim: {lr: 0.05}}], pairs: \[{teacher: resnet56, student:
    resnet20}], seeds: 3 or \[3, 7], and recipe: with any other keys of a recipe for all runs. The tables are table.md,
    table.tex and report.html of the suite's folder, every run is in runs.csv; see docs/bench.md.

    jobs=2 runs two at a time (default: found by trying). share=1/4 does the first of four parts, for as many machines;
    submit=4 hands the four parts to Slurm, with slurm.partition=gpu, slurm.timeout_min=240 and the like.
    """
    with loading():
        from attar.experiments.suites.bench import read_suite
        from attar.experiments.suites.cluster import Submission, submit

    if search is not None:
        if against:
            raise AttarError("--against compares finished runs; leave it out of a search and give it to the best suite")
        _search(suite, overrides or [], search)
        return
    submission, arguments = Submission.of(overrides or [])
    control = tuple(against or ())
    bench = read_suite(suite, arguments, console, control)
    if submission is not None:
        jobs = submit(bench, submission, suite, arguments, control, imported_files())
        names = ", ".join(job.job_id for job in jobs)
        console.print(f"submitted: {names}; logs in {bench.folder / 'jobs'}", markup=False, soft_wrap=True)
        console.print("The same command without submit= does what is left, and pools the table.", markup=False)
        return
    bench.prepare = _beside()
    for table in bench.run():
        console.print(table)
    for line in bench.tables().notes():
        console.print(line, markup=False)
    console.print(f"Report: {bench.folder / 'report.html'}", markup=False, soft_wrap=True)


def _search(suite: Path, overrides: list[str], trials: int) -> None:
    """Search the methods of a suite, and print where the suites of the best are."""
    with loading():
        from attar.experiments.suites.search import FOLDER, read_search, without_values

    found = read_search(suite, overrides, trials, console)
    for table in found.run():
        console.print(without_values(table))
    for file in sorted((found.folder / FOLDER).glob("best-*.yaml")):
        console.print(f"With seeds, on the test set: attar bench {quote(str(file))}", markup=False, soft_wrap=True)


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
