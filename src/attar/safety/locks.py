"""One process at a time in a run's folder."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from attar.errors import AttarError
from attar.files import remove_leftovers

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; what a killed one left unfinished in it is removed.

    The system releases the lock when the process ends, however it ends. Where a file system knows no locks, the
    process that is written in the file is asked for instead; a process of another machine counts as running until
    the file is deleted.

    Raises:
        AttarError: another process works in the folder, or it cannot be written.
    """
    with held(folder / NAME):
        remove_leftovers(folder)
        yield


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a lock file for this process; its folder is what messages name.

    Raises:
        AttarError: another process holds it, or it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise AttarError(f"cannot write {path}: {error.strerror or error}; choose another out=") from None
    with file:
        if not _take(file):
            raise AttarError(f"{path.parent} is in use by {_holder(file)}; wait for it, or stop it first")
        _write(file, json.dumps(_self()))
        try:
            yield
        finally:
            _write(file, "")


def _self() -> dict[str, Any]:
    started = datetime.now().astimezone().isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "started": started}


def claim(handle: int) -> bool | None:
    """Take an open file's lock until the file is closed: whether it is ours now, None where there are no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True


def _take(file: IO[str]) -> bool:
    """Whether the lock is ours now."""
    ours = claim(file.fileno())
    return not _alive(_read(file)) if ours is None else ours


def _alive(holder: dict[str, Any]) -> bool:
    """Whether the process in a lock file still runs, as far as this machine can see."""
    if not holder:
        return False
    # Windows has no signal 0, and other machines cannot be asked.
    if os.name == "nt" or holder["host"] != socket.gethostname():
        return True
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's process
        return True
    return True


def _holder(file: IO[str]) -> str:
    holder = _read(file)
    if not holder:
        return "another process"
    return f"process {holder['pid']} on {holder['host']}, started {holder['started']}"


def _read(file: IO[str]) -> dict[str, Any]:
    file.seek(0)
    try:
        held = json.loads(file.read() or "{}")
        return held if {"pid", "host", "started"} <= held.keys() else {}
    except (ValueError, AttributeError):  # half written by a process that died
        return {}


def _write(file: IO[str], text: str) -> None:
    file.seek(0)
    file.truncate()
    file.write(text)
    file.flush()
