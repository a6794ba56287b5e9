"""The entry point: success, an interruption (status 130), or a mistake in one line (status 2)."""

from __future__ import annotations

import io
import platform
import sys
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.status import Status

from attar.errors import AttarError, Stopped

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
console = Console(highlight=False)


def _show_version(asked: bool) -> None:
    if asked:
        console.print(f"attar {version('attar')} (torch {version('torch')}, Python {platform.python_version()})")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the versions and exit.")
    ] = False,
) -> None:
    """Knowledge distillation: train a small network to do what a large one does."""


INTERRUPTED, MISTAKE = 130, 2


def loading() -> Status:
    """A line that moves while a command imports torch and what it needs, seconds on a slow disk."""
    return console.status("loading")


def main() -> None:
    """The entry point: a mistake in the input is one line and status 2."""
    _print_anything()
    try:
        status = app(standalone_mode=False)
    except AttarError as error:
        fail(str(error))
    except OSError as error:  # a full disk, a folder that may not be written
        fail(f"{error.strerror or error}: {error.filename or 'a file'}")
    except Stopped as stopped:
        how = f": attar resume {stopped}" if str(stopped) else "; the same command goes on"
        console.print(f"stopped; the state is saved{how}", markup=False, soft_wrap=True)
        sys.exit(INTERRUPTED)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(INTERRUPTED)
    except Exception as error:
        # The parser's own errors are one line; any other exception is a bug of ours.
        if not hasattr(error, "format_message"):
            raise
        fail(f"{error.format_message()} (attar --help)" if error.format_message() else "give a command (attar --help)")
    # Without its standalone mode the parser returns the status of what it ended itself, Ctrl-C for one.
    sys.exit(status if isinstance(status, int) else 0)


def _print_anything() -> None:
    """What the terminal's encoding lacks, an arrow or a byte of a file's name, is printed as its escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # else somebody else's, in a notebook or a test
            stream.reconfigure(errors="backslashreplace")


def fail(message: str) -> NoReturn:
    """One line on stderr, and status 2."""
    Console(stderr=True, soft_wrap=True).print(f"[bold red]attar:[/] {escape(message)}", highlight=False)
    sys.exit(MISTAKE)
