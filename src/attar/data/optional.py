"""Packages that only some forms of data need, imported when they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from attar.errors import AttarError


def require(package: str, purpose: str, extra: str) -> Any:
    """A package of an extra.

    Args:
        package: what to import.
        purpose: what needs it, for the message.
        extra: the extra that brings it.

    Raises:
        AttarError: it is not installed.

    >>> require("no_such_package", "a Parquet table", "parquet")
    Traceback (most recent call last):
    attar.errors.AttarError: a Parquet table needs no_such_package; pip install 'attar[parquet]'
    """
    try:
        return importlib.import_module(package)
    except ImportError:
        raise AttarError(f"{purpose} needs {package.partition('.')[0]}; pip install 'attar[{extra}]'") from None
