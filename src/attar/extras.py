"""Optional packages: imported when they are needed, with an error that names the extra."""

from __future__ import annotations

import contextlib
import functools
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


def openvino_core(purpose: str) -> Any:
    """The process's `openvino.Core`.

    Each core gives its thread a stack for signal handlers and later restores the one it found. Of two cores, the one
    made first is often given up first; the second then restores a stack that is freed, and the next Ctrl-C or SIGTERM
    ends the process with a segmentation fault, where a run would be saved (its CPU plugin, OpenVINO 2026.4).

    Args:
        purpose: what needs OpenVINO, for the message.

    Raises:
        AttarError: OpenVINO is not installed.
    """
    require("openvino", purpose, "speed")
    return _core()


@functools.cache
def _core() -> Any:
    import openvino

    return openvino.Core()


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
