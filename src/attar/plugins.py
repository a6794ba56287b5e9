"""Python files and modules of one's own, with methods, networks, data sets or formats: imported, and recorded.

A recipe may name a function of such a module as `module:function`. A run's folder says what it imported (imports.json),
so that whoever opens it again without that learns what is missing. Nothing is ever imported because a folder says so:
it may come from somebody else.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attar.errors import AttarError, UnknownNameError
from attar.files import write_json

RECORD = "imports.json"
# The files and modules that this process has imported, and the SHA-256 of each.
_imported: dict[Path, str] = {}
MODULE = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
FUNCTION = re.compile(rf"({MODULE}):({MODULE})")


def import_files(files: Iterable[str | Path]) -> None:
    """Import Python files by path, or modules by name, in this order; what was imported already is not run again.

    Raises:
        AttarError: a file or a module is missing, or raises; of a file with its line.
    """
    for file in map(Path, files):
        if not file.exists() and re.fullmatch(MODULE, str(file)) and file.suffix != ".py":
            import_module(str(file))
            continue
        if not file.is_file():
            raise AttarError(f"--import {file}: no such Python file")
        if file.resolve() not in _imported:
            digest = _digest(file)
            _run(file)
            _imported[file.resolve()] = digest


def import_module(name: str) -> None:
    """Import a module by its name, as from the folder one stands in.

    Raises:
        AttarError: it is missing, or raises.
    """
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(name)
    except AttarError:
        raise
    except Exception as error:
        raise AttarError(f"module {name!r} cannot be imported: {type(error).__name__}: {error}") from error
    file = getattr(module, "__file__", None)
    _imported[Path(name)] = _digest(Path(file)) if file else ""


def imported_files() -> list[Path]:
    """What `import_files` has imported in this process."""
    return list(_imported)


def names_function(name: str) -> bool:
    """Whether a name has the form module:function.

    >>> names_function("nets:small"), names_function("resnet20"), names_function("given:ResNet")
    (True, False, False)
    """
    return FUNCTION.fullmatch(name) is not None and not name.startswith("given:")


def function_named(name: str) -> Any:
    """What module:function names, of a module that was imported because the user gave it.

    Raises:
        AttarError: the module was not imported, or has no such function.
    """
    module, _, path = name.partition(":")
    if Path(module) not in _imported:
        raise AttarError(f"{name!r} is of the module {module}, which was not imported; give --import {module}")
    found: Any = sys.modules[module]
    for part in path.split("."):
        if not hasattr(found, part):
            raise AttarError(f"module {module!r} has no {path!r}, which {name!r} names")
        found = getattr(found, part)
    return found


def name_of(thing: Any) -> str | None:
    """module:function of a function or class that can be found so; its module then counts as imported.

    >>> name_of(lambda: 0) is None
    True
    """
    module, path = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if module in (None, "__main__", "builtins") or path is None or not names_function(f"{module}:{path}"):
        return None
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    if found is not thing:
        return None
    import_module(module)
    return f"{module}:{path}"


def import_named(tree: Any) -> None:
    """Import the modules of every module:function among values that the user gave."""
    for name in tree.split(",") if isinstance(tree, str) else ():
        if names_function(name):
            import_module(name.partition(":")[0])
    parts = [*tree, *tree.values()] if isinstance(tree, dict) else tree if isinstance(tree, list | tuple) else ()
    for part in parts:
        import_named(part)


def _module_name(file: Path) -> str:
    """Never the name of a module that others import."""
    return f"attar_import_{file.stem}"


def _run(file: Path) -> None:
    name = _module_name(file)
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


def modules_of(name: str) -> set[str]:
    """The names under which a file or a module that was imported stands in `sys.modules`."""
    return {name, _module_name(Path(name))}


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
