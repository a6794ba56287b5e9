"""The command line: `attar distill`, `train`, `bench`, `evaluate`, `resume`, `methods`."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperCommand

from attar.errors import AttarError, Stopped

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Knowledge distillation for image classifiers: put what a large network knows into a small one.",
)
console = Console(highlight=False)
INTERRUPTED, MISTAKE = 130, 2

RecipeArguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="[RECIPE] [KEY=VALUE]...", help="A packaged recipe or a YAML file, and changes to it."),
]
DataArguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Keys of the recipe's data section: name, root, ..."),
]
Plugin = Annotated[
    list[Path] | None,
    typer.Option("--import", metavar="FILE.py", help="Python files to import first, with methods of your own."),
]


def main() -> None:
    """The entry point: a mistake in the input is one line and status 2."""
    try:
        status = app(standalone_mode=False)
    except AttarError as error:
        fail(str(error))
    except OSError as error:  # a full disk, a folder that may not be written
        fail(f"{error.strerror or error}: {error.filename or 'a file'}")
    except Stopped as stopped:
        console.print(f"stopped; the state is saved: attar resume {stopped}", markup=False, soft_wrap=True)
        sys.exit(INTERRUPTED)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(INTERRUPTED)
    except Exception as error:
        # The parser's own errors say in one line what they miss; any other exception is ours to mend.
        if not hasattr(error, "format_message"):
            raise
        fail(f"{error.format_message()} (attar --help)" if error.format_message() else "give a command (attar --help)")
    # Without its standalone mode the parser returns the status of what it ended itself, Ctrl-C for one.
    sys.exit(status if isinstance(status, int) else 0)


def fail(message: str) -> NoReturn:
    """One line on stderr, and status 2."""
    Console(stderr=True, soft_wrap=True).print(f"[bold red]attar:[/] {escape(message)}", highlight=False)
    sys.exit(MISTAKE)


class RecipeCommand(TyperCommand):
    """A command whose help ends with the keys of a recipe, read from the dataclasses' attribute docs."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from attar.recipe import describe

        super().format_help(ctx, formatter)
        table = Table("key", "default", "meaning", box=box.SIMPLE_HEAD, pad_edge=False, title="Keys of a recipe")
        table.columns[0].no_wrap = True
        for row in describe():
            table.add_row(*map(escape, row))
        console.print(table)


def split_arguments(arguments: list[str] | None) -> tuple[str | None, list[str]]:
    """The recipe file, where the first argument is one, and the key=value overrides."""
    if not arguments or "=" in arguments[0]:
        return None, arguments or []
    return arguments[0], arguments[1:]


def load_plugins(files: list[Path] | None) -> None:
    """Import Python files by path, so that the methods in them are registered."""
    for file in files or ():
        name = f"attar_import_{file.stem}"  # never the name of a module that others import
        spec = importlib.util.spec_from_file_location(name, file)
        if not file.is_file() or spec is None or spec.loader is None:
            raise AttarError(f"--import {file}: no such Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except AttarError:
            raise
        except Exception as error:
            frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == spec.origin]
            line = frames[-1].lineno if frames else getattr(error, "lineno", "?")
            raise AttarError(f"--import {file}: line {line}: {type(error).__name__}: {error}") from error


def show(summary: Any) -> None:
    """The tables and the headline of a finished job."""
    for table in (summary.accuracy_table(), summary.cost_table()):
        console.print(table.rich())
    console.print(summary.sentence(), markup=False)
    console.print(f"Report: {summary.report}\nStudent: {summary.student}", markup=False, soft_wrap=True)


@app.command(cls=RecipeCommand, short_help="Distil a small network from a large one.")
def distill(arguments: RecipeArguments = None, plugins: Plugin = None) -> None:
    """Distil a small network from a large one.

    With a recipe file, keys, or both. Where neither names a student, the embedded recipe runs, on real data:

    attar distill teacher=resnet56 teacher.weights=resnet56.pth student=resnet20 data=cifar100 data.root=data method=kd
    """
    from attar.recipe import read_recipe
    from attar.train import job

    load_plugins(plugins)
    file, overrides = split_arguments(arguments)
    if file is None and not any(override.startswith("student") for override in overrides):
        file = "digits"
    show(job.start(read_recipe(file, overrides), console))


@app.command(cls=RecipeCommand, short_help="Train a network on the labels alone.")
def train(arguments: RecipeArguments = None) -> None:
    """Train a network on the labels alone: a teacher, or a baseline.

    attar train student=resnet56 data=cifar100 data.root=data epochs=30
    """
    from attar import api
    from attar.recipe import read_recipe
    from attar.train import job

    file, overrides = split_arguments(arguments)
    show(job.start(api.plain(read_recipe(file, overrides)), console))


@app.command(short_help="Compare methods over pairs and seeds.")
def bench(
    suite: Annotated[Path, typer.Argument(metavar="SUITE.yaml", help="Methods, pairs, seeds and the common recipe.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes to the common recipe, and out=.")
    ] = None,
    plugins: Plugin = None,
) -> None:
    """Compare methods over pairs of networks and seeds, a run folder each; finished runs are not done again.

    A suite: methods: [kd, {name: dkd, beta: 2}], pairs: [{teacher: resnet56, student: resnet20}], seeds: 3, and
    recipe: with any other keys of a recipe for all runs. The table is in table.md and table.csv of the suite's folder.
    """
    from attar.train.bench import read_suite

    load_plugins(plugins)
    console.print(read_suite(suite, overrides or [], console).run().rich())


@app.command(short_help="Score a saved network on a test set.")
def evaluate(
    network: Annotated[Path, typer.Argument(help="A run's folder, or a .safetensors file with its JSON.")],
    data: DataArguments = None,
    teacher: Annotated[Path | None, typer.Option(help="Another saved network to compare with.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
) -> None:
    """Score a saved network on the test set it was trained for, or another with the same classes."""
    from attar import api
    from attar.recipe import parse

    keys: dict[str, Any] = {}
    for pair in data or ():
        keys |= parse(pair)
    if clash := {"path", "teacher", "device"} & keys.keys():
        raise AttarError(f"{clash.pop()} is no key of data; give --teacher or --device, see attar evaluate --help")
    scores = api.evaluate(network, teacher=teacher, device=device, **keys)
    for key, value in dataclasses.asdict(scores).items():
        if value is not None and key != "per_class":
            console.print(
                f"{key:>10}  {value:.4f}" if isinstance(value, float) else f"{key:>10}  {value}", markup=False
            )


@app.command(short_help="Go on with an interrupted run.")
def resume(run: Annotated[Path, typer.Argument(help="The run's folder.")], plugins: Plugin = None) -> None:
    """Go on with an interrupted run, exactly where it stopped; a finished one only prints its table again."""
    from attar import api

    load_plugins(plugins)
    show(api.resume(run, console=console))


@app.command(short_help="List the methods, or explain one.")
def methods(
    name: Annotated[str | None, typer.Argument(help='A method, or a pattern such as "*kd*".')] = None,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw who teaches whom into this file.")] = None,
    plugins: Plugin = None,
) -> None:
    """List the methods, or explain one: its source, its options and who teaches whom."""
    from attar.methods import list_methods
    from attar.report.catalogue import methods_table

    load_plugins(plugins)
    if name and not any(mark in name for mark in "*?["):
        return explain(name, svg)
    console.print(methods_table(list_methods(name or "*")).rich())
    return None


def explain(name: str, svg: Path | None) -> None:
    """Everything the registry knows about one method, with its graph as text and, where asked, as a picture."""
    import inspect

    from attar.files import write_text
    from attar.methods import create_method, method_info
    from attar.nets import create_model
    from attar.report.drawing import svg as draw

    info = method_info(name)
    console.print(f"{info.name}: {info.title}" + (f" ({info.paper}, {info.year})" if info.paper else ""), style="bold")
    console.print(inspect.getdoc(info.cls) or "", markup=False)
    for option, default in info.defaults.items():
        console.print(f"  method.{option}={default}", markup=False)
    teacher = create_model("resnet14") if info.takes_teacher else None
    graph = create_method(name, teacher=teacher, student=create_model("resnet8")).graph
    console.print(graph.mermaid(), markup=False, soft_wrap=True)
    if svg:
        write_text(svg, draw(graph))
