"""Arguments that several commands share: a recipe and its keys, and files to import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer
from rich import box
from rich.markup import escape
from rich.table import Table
from typer.core import TyperCommand

from attar.cli.entry import console
from attar.plugins import import_files

RecipeArguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="[RECIPE] [KEY=VALUE]...", help="A packaged recipe or a YAML file, and changes to it."),
]


def _import(files: list[Path] | None) -> list[Path] | None:
    import_files(files or ())
    return files


# Read before all other arguments, so that names in them may come from these files.
Plugin = Annotated[
    list[Path] | None,
    typer.Option(
        "--import",
        metavar="FILE.py",
        callback=_import,
        is_eager=True,
        help="Python files or modules to import first, with methods, networks, data or formats of your own.",
    ),
]


class RecipeCommand(TyperCommand):
    """A command whose help ends with the keys of a recipe, read from the dataclasses' attribute docs.

    Attributes:
        refused: how the keys begin that the command does not take.
    """

    refused: ClassVar[tuple[str, ...]] = ()

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from attar.recipe import describe

        super().format_help(ctx, formatter)
        table = Table("key", "default", "meaning", box=box.SIMPLE_HEAD, pad_edge=False, title="Keys of a recipe")
        table.columns[0].no_wrap = True
        table.columns[-1].overflow = "fold"  # a path has no place to break
        for row in describe():
            if not row[0].startswith(self.refused):
                table.add_row(*map(escape, row))
        console.print(table)


class TrainCommand(RecipeCommand):
    """A recipe's command that learns from labels alone: the keys of distillation are left out."""

    refused = ("teacher.", "chain", "method.", "alone")


def split_arguments(arguments: list[str] | None) -> tuple[str | None, list[str]]:
    """The recipe file, where the first argument is one, and the key=value overrides."""
    if not arguments or "=" in arguments[0]:
        return None, arguments or []
    return arguments[0], arguments[1:]
