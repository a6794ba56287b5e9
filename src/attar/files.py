"""Files that are either whole or not there."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attar.errors import AttarError

# How unfinished files are called: a dot, the file's name, the process.
TEMPORARY = re.compile(r"\..+\.\d+\.tmp")


def write_atomically(path: Path, write: Callable[[Path], object], keep: Path | None = None) -> None:
    """Write to a temporary file beside `path`, flush it to the disk and rename it into place.

    Args:
        path: where the file goes.
        write: called with the temporary file's path.
        keep: where the file that was at `path` goes. It is moved only when the new one is whole on the disk, so that
            at every moment at least one of the two is there.

    Raises:
        AttarError: the disk is full, or the place cannot be written; what was there before is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode
        write(temporary)
        temporary.chmod(mode)  # some writers make files that only their owner may read
        _flush(temporary)
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(temporary, path)
        _flush(path.parent)
    except OSError as error:
        raise AttarError(
            f"cannot write {path}: {error.strerror or error}; what was there before is kept; make room or choose "
            "another place, and start again"
        ) from error
    finally:
        _remove(temporary)


def write_text(path: Path, text: str) -> None:
    """A text file, atomically; what UTF-8 cannot hold, such as a byte of a file name, is written as its escape."""
    write_bytes(path, utf8(text).encode())


def utf8(text: str) -> str:
    r"""A text as UTF-8 can hold it: a byte of a file's name that is no UTF-8 becomes its escape.

    >>> utf8("caf\udce9")
    'caf\\udce9'
    """
    return text.encode("utf-8", "backslashreplace").decode()


def write_bytes(path: Path, content: bytes) -> None:
    """A file of these bytes, atomically."""
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def write_json(path: Path, tree: Any) -> None:
    """A JSON file, atomically; readable by people."""
    write_text(path, json.dumps(tree, indent=2) + "\n")


def free_space(folder: Path) -> int:
    """Bytes that are free where a folder is, or will be; endless where the file system does not say.

    >>> free_space(Path("not") / "there") > 0
    True
    """
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    usage = shutil.disk_usage(existing)
    return usage.free if usage.total else sys.maxsize


def check_space(folder: Path, needed: int) -> None:
    """Refuse to begin what will not fit on the disk.

    Raises:
        AttarError: fewer bytes than needed are free where the folder is, or will be.
    """
    if needed > (free := free_space(folder)):
        raise AttarError(
            f"{folder} needs about {needed / 1e6:,.0f} MB, its disk has {free / 1e6:,.0f} MB free; make room, or "
            "choose another out="
        )


def remove_leftovers(folder: Path) -> None:
    """Delete what a killed process left unfinished anywhere below a folder that no other process works in."""
    for file in folder.rglob(".*.tmp"):
        if TEMPORARY.fullmatch(file.name):
            _remove(file)


def _remove(file: Path) -> None:
    try:
        file.unlink()
    except OSError:  # not there, or its folder is not: nothing is left over
        return


def _flush(path: Path) -> None:
    """Make a file, or the names in a folder, survive a power cut."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open folders, and needs no flush of them
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
