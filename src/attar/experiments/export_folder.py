"""What lies in the folder of an export: the files of one network, made by one export or by several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from attar.deploy import Export, Student, read_export
from attar.deploy.export import without_files
from attar.deploy.formats import FORMATS
from attar.errors import AttarError

RECORDS = ("README.md", "export.md", "export.json")


def taken_names(folder: Path) -> list[str]:
    """What lies in a folder where an export would write."""
    return [name for name in (*RECORDS, *(FORMATS[kind].file for kind in FORMATS)) if (folder / name).exists()]


def continued(student: Student, folder: Path) -> Export | None:
    """The export that a further one goes on with; the files of any other one are deleted.

    It must be of the same weights, normalisation and temperature, and compared on the same samples.
    """
    try:
        earlier = read_export(folder)
    except AttarError:  # a damaged record, so nobody knows what the files are
        earlier = None
    begun = without_files(student, folder)
    if earlier is not None and replace(earlier, files=[], failures={}, within=begun.within) == begun:
        return earlier
    _clear(folder)
    return None


def _clear(folder: Path) -> None:
    for name in FORMATS:
        FORMATS[name].remove(folder)
    # Without export.json a README.md is somebody else's.
    for name in ("student.json", *(RECORDS if (folder / "export.json").exists() else ())):
        (folder / name).unlink(missing_ok=True)


def merged(earlier: Export | None, done: Export, names: Sequence[str]) -> Export:
    """An export with the files of an earlier one that it did not make again.

    Args:
        earlier: what `continued` found.
        done: what came of the formats that were asked for.
        names: of these.
    """
    if earlier is None:
        return done
    kept = [file for file in earlier.files if file.format not in names and (done.folder / file.file).exists()]
    made = {file.format: file for file in (*kept, *done.files)}
    # The budget is that of the 8-bit file.
    within = (done if any(FORMATS[name].calibrated for name in names) else earlier).within
    return replace(done, files=[made[name] for name in FORMATS if name in made], within=within)
