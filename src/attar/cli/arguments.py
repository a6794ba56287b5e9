"""What several commands read from their words: a recipe and its keys, and files to import."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.markup import escape
from rich.table import Table
from typer.core import TyperCommand

from attar.cli.entry import console
from attar.errors import AttarError

RecipeArguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="[RECIPE] [KEY=VALUE]...", help="A packaged recipe or a YAML file, and changes to it."),
]
Plugin = Annotated[
    list[Path] | None,
    typer.Option("--import", metavar="FILE.py", help="Python files to import first, with methods of your own."),
]


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
