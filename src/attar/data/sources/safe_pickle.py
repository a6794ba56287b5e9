"""Pickles that hold arrays, lists and text, read without running anything they name."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from attar.errors import AttarError, first_line

# Taken from an array, because its module was renamed in numpy 2.
_RECONSTRUCT: Any = np.zeros(0).__reduce__()[0]


def _encode(text: str, encoding: str) -> bytes:
    """How protocol 2 writes bytes; other codecs have no place in these files."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"codec {encoding!r}")
    return text.encode(encoding)


ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return ALLOWED[module, name]


def load_pickle(file: Path) -> Any:
    """The contents of a pickle of plain values and numpy arrays, also one written by Python 2.

    Raises:
        AttarError: the file is damaged, or asks for anything but arrays and plain values.
    """
    try:
        with file.open("rb") as stream:
            return _Unpickler(stream, encoding="latin1").load()
    except Exception as error:  # damaged pickles fail in many ways that mean the same
        reason = first_line(error)
        raise AttarError(
            f"{file} is damaged or not what it claims to be ({reason}); delete it and load again"
        ) from None
