"""The command line, a file for each group of commands."""

from attar.cli import train, search, report, measure, deploy, methods, listing  # noqa: F401, I001, they register themselves, in the help's order
from attar.cli.entry import INTERRUPTED, MISTAKE, app, main, paragraphs

for command in app.registered_commands:
    command.help = paragraphs(command.callback.__doc__ or "")

__all__ = ["INTERRUPTED", "MISTAKE", "app", "main"]
