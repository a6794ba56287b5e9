"""The entry point: success, an interruption (status 130), or a mistake in one line (status 2)."""

from __future__ import annotations

import inspect
import io
import platform
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, NoReturn, TextIO

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
# The warnings that the command has printed: a network that is built again warns again.
_shown: set[str] = set()
# The commands that take keys of a recipe.
KEYED = ("distill", "train", "search", "bench")


def paragraphs(text: str) -> str:
    """A docstring whose paragraphs are one line each, for the terminal to break.

    >>> paragraphs("Compare runs:\\n    one table.\\n\\n    attar compare A B")
    'Compare runs: one table.\\n\\nattar compare A B'
    """
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))


def loading() -> Status:
    """A line that moves while a command imports torch and what it needs, seconds on a slow disk."""
    return console.status("loading")


def main() -> None:
    """The entry point: a mistake in the input is one line and status 2."""
    _print_anything()
    _shown.clear()
    warnings.showwarning = show_warning
    try:
        status = app(standalone_mode=False, prog_name="attar")
    except AttarError as error:
        fail(str(error))
    except OSError as error:  # a full disk, a folder that may not be written
        fail(f"{error.strerror or error}: {error.filename or 'a file'}")
    except Stopped as stopped:
        how = f": attar resume {quote(str(stopped))}" if str(stopped) else "; the same command goes on"
        console.print(f"stopped; the state is saved{how}", markup=False, soft_wrap=True)
        sys.exit(INTERRUPTED)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(INTERRUPTED)
    except Exception as error:
        # The parser's own errors are one line; any other exception is a bug of ours.
        if not hasattr(error, "format_message"):
            raise
        fail(parsing_error(error))
    # Without its standalone mode the parser returns the status of what it ended itself, Ctrl-C for one.
    sys.exit(status if isinstance(status, int) else 0)


def parsing_error(error: Any) -> str:
    """What the parser did not understand, in one line with the command whose help explains it."""
    message = error.format_message().rstrip(".") or "give a command"
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "attar"
    if message.startswith("No such option") and command.split()[-1] in KEYED:
        message += "; keys are written without dashes, such as epochs=10"
    elif "unexpected extra argument" in message and "=" in message:
        message += "; options are written with dashes, such as --top 3"
    return f"{message} ({command} --help)"


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning as one line, once in a command; one of another package than attar with where it comes from."""
    ours = Path(__file__).parents[1] in Path(filename).parents
    where = "" if ours else f" ({category.__name__} at {filename}:{lineno})"
    text = f"warning: {str(message).strip()}{where}"
    if text not in _shown:
        _shown.add(text)
        print(text, file=file or sys.stderr)


def _print_anything() -> None:
    """What the terminal's encoding lacks, an arrow or a byte of a file's name, is printed as its escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # else somebody else's, in a notebook or a test
            stream.reconfigure(errors="backslashreplace")


def fail(message: str) -> NoReturn:
    """One line on stderr, and status 2."""
    Console(stderr=True, soft_wrap=True).print(f"[bold red]attar:[/] {escape(message)}", highlight=False)
    sys.exit(MISTAKE)
