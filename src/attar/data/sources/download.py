"""Published files: fetched with a checksum, unpacked without leaving their folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
import zlib
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO
from urllib.request import urlopen

from rich.console import Console
from rich.progress import wrap_file

from attar.errors import AttarError

TIMEOUT = 30.0  # seconds without a byte


def data_root() -> Path:
    """Where downloads are kept: attar/data in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "attar" / "data"


def fetch(url: str, file: Path, md5: str) -> None:
    """Fetch a file; it appears under its name only when it is whole.

    Raises:
        AttarError: the address cannot be reached, the file cannot be written, or the checksum is not `md5`.
    """
    partial = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with urlopen(url, timeout=TIMEOUT) as answer, partial.open("wb") as out:
            _copy(answer, out, file.name, int(answer.headers.get("Content-Length") or 0))
        check_md5(partial, md5, url)
        partial.replace(file)
    except (OSError, HTTPException) as error:
        raise AttarError(
            f"cannot download {url} ({error}); put {file.name} into {file.parent}, "
            "or give the folder that has it as data.root="
        ) from None
    finally:
        partial.unlink(missing_ok=True)


def check_md5(file: Path, md5: str, origin: str | Path) -> None:
    """Refuse a file whose contents are not the published ones."""
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "md5").hexdigest()
    if found != md5:
        raise AttarError(
            f"{origin} is not the published file: expected md5 {md5}, got {found}; delete it and load again"
        )


def unpack(archive: Path, folder: str) -> Path:
    """Unpack one folder of a .tar.gz beside the archive; it appears only when it is whole.

    Raises:
        AttarError: the folder is there, or the archive is damaged, lacks it, or holds a path that leads outside.
    """
    target = archive.parent / folder
    if target.exists():
        raise AttarError(f"{target} lacks files; remove it, and it will be unpacked again")
    try:
        with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
            with tarfile.open(archive, "r:gz") as tar:
                tar.extractall(scratch, filter="data")
            (Path(scratch) / folder).replace(target)
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise AttarError(
            f"cannot unpack {archive} ({error}); expected the whole archive in a folder that can be written"
        ) from None
    return target


def _copy(source: BinaryIO, target: BinaryIO, name: str, total: int) -> None:
    console = Console(stderr=True)
    with wrap_file(source, total, description=name, console=console, transient=True) as stream:
        shutil.copyfileobj(stream, target)
