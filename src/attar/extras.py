"""Optional packages: imported when they are needed, with an error that names the extra."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from attar.errors import AttarError


def require(package: str, purpose: str, extra: str) -> Any:
    """A package of an extra.

    Args:
        package: what to import.
        purpose: what needs it, for the message.
        extra: what installs it.

    Raises:
        AttarError: it is not installed, or a package that it imports is not.

    >>> require("no_such_package", "ONNX", "export")
    Traceback (most recent call last):
    attar.errors.AttarError: ONNX needs no_such_package; pip install 'attar[export]'
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        missing = (error.name or package).partition(".")[0]
        raise AttarError(f"{purpose} needs {missing}; pip install 'attar[{extra}]'") from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the exporters' progress lines, log and warnings; what goes wrong comes as an exception."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(_nowhere()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _nowhere() -> io.StringIO:
    """What takes printed text. A line that moves in the terminal meanwhile goes on: rich finds its file here."""
    sink = io.StringIO()
    if (terminal := getattr(sys.stdout, "rich_proxied_file", None)) is not None:
        vars(sink)["rich_proxied_file"] = terminal
    return sink
