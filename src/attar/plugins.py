"""Python files of one's own, with methods, networks, data sets or formats in them: imported by path, and recorded.

A run's folder says which files it imported (imports.json), so that whoever opens it again without them learns what is
missing. Nothing is ever imported because a folder says so: it may come from somebody else.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attar.errors import AttarError, UnknownNameError
from attar.files import write_json

RECORD = "imports.json"
# The files that this process has imported, and the SHA-256 of each.
_imported: dict[Path, str] = {}


def import_files(files: Iterable[str | Path]) -> None:
    """Import Python files by path, in this order; one that was imported already is not run again.

    Raises:
        AttarError: a file is missing, or raises; with its line.
    """
    for file in map(Path, files):
        if not file.is_file():
            raise AttarError(f"--import {file}: no such Python file")
        if file.resolve() not in _imported:
            digest = _digest(file)
            _run(file)
            _imported[file.resolve()] = digest


def imported_files() -> list[Path]:
    """What `import_files` has imported in this process."""
    return list(_imported)


def _run(file: Path) -> None:
    name = f"attar_import_{file.stem}"  # never the name of a module that others import
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise AttarError(f"--import {file}: no such Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except AttarError:
        raise
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == spec.origin]
        line = frames[-1].lineno if frames else getattr(error, "lineno", "?")
        raise AttarError(f"--import {file}: line {line}: {type(error).__name__}: {error}") from error


def record_imports(folder: Path) -> None:
    """Write into a run's folder which files this process has imported; a folder that has the record keeps it."""
    if _imported and not (folder / RECORD).exists():
        entries = [{"file": str(path), "sha256": digest} for path, digest in _imported.items()]
        write_json(folder / RECORD, entries)


def changed_imports(folder: Path) -> list[str]:
    """The names of files that the run imported and that this process has imported with another content."""
    now = {path.name: digest for path, digest in _imported.items()}
    return [name for name, digest in _recorded(folder) if name in now and now[name] != digest]


@contextmanager
def naming_imports(folder: str | Path) -> Iterator[None]:
    """A name that is unknown inside this block is reported with the files that the folder's run imported.

    Args:
        folder: a run's, or a file or folder inside one.
    """
    try:
        yield
    except UnknownNameError as error:
        here = {path.name for path in _imported}
        missing = [name for name, _ in _recorded(Path(folder)) if name not in here]
        if not missing:
            raise
        options = " ".join(f"--import {name}" for name in missing)
        raise AttarError(f"{error}; this run imported {', '.join(missing)}; give {options}") from None


def _recorded(folder: Path) -> list[tuple[str, str]]:
    """(file name, SHA-256) of every file that the run around a place imported."""
    record = next((file for at in (folder, *folder.parents[:2]) if (file := at / RECORD).is_file()), None)
    if record is None:
        return []
    try:
        return [(Path(entry["file"]).name, str(entry["sha256"])) for entry in json.loads(record.read_bytes())]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # damaged: it is only a hint
        return []


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
