"""One process at a time in a run's folder, on one machine or several that share it."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
# A holder touches its file this often. A file of another machine that nobody has touched for so long is free.
BEAT_SECONDS, LEASE_SECONDS = 20.0, 120.0


class InUseError(AttarError):
    """Another process works there."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; what a killed one left unfinished in it is removed.

    The system releases the lock when the process ends, however it ends. A file system may know no locks, or keep them
    from other machines: there the process that is written in the file counts. On this machine it is asked for; on
    another one it holds the folder while it touches the file (every 20 s), and for 120 s after that. Both times are the
    file server's, so clocks may differ.

    Raises:
        InUseError: another process works in the folder.
        AttarError: it cannot be written.
    """
    with held(folder / NAME):
        remove_leftovers(folder)
        yield


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a lock file for this process; its folder is what messages name.

    Raises:
        InUseError: another process holds it.
        AttarError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise AttarError(f"cannot write {path}: {error.strerror or error}; choose another out=") from None
    with file:
        if not _take(file, path):
            raise InUseError(f"{path.parent} is in use by {_holder(file)}; wait for it, or stop it first")
        _write(file, json.dumps(_self()))
        ended = threading.Event()
        beats = threading.Thread(target=_beat, args=(path, ended), daemon=True)
        beats.start()
        try:
            yield
        finally:
            ended.set()
            _write(file, "")


def _beat(path: Path, ended: threading.Event) -> None:
    """Touch a lock file until its holder is done with it; a failed touch is tried again."""
    while not ended.wait(BEAT_SECONDS):
        with suppress(OSError):
            os.utime(path)


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


def _take(file: IO[str], path: Path) -> bool:
    """Whether the lock is ours now."""
    ours, holder = claim(file.fileno()), _read(file)
    if ours is False:
        return False
    if holder and holder["host"] != socket.gethostname():
        # Our lock may not reach that machine.
        return _age(file, path) > LEASE_SECONDS
    return ours or not _alive(holder)


def _alive(holder: dict[str, Any]) -> bool:
    """Whether the process of this machine in a lock file still runs, as far as can be seen."""
    if not holder:
        return False
    if os.name == "nt":  # it has no signal 0
        return True
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's process
        return True
    return True


def _age(file: IO[str], path: Path) -> float:
    """The seconds since a lock file was touched, by the clock of its file system."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.", suffix=f".{os.getpid()}.tmp") as now:
        return os.fstat(now.fileno()).st_mtime - os.fstat(file.fileno()).st_mtime


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
