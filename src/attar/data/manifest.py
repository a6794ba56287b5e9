"""Images listed in a table: a CSV file with the columns path, label and perhaps split."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path

from attar.data.decoding import require_pillow
from attar.data.from_files import Reading
from attar.data.images import Splits
from attar.data.registry import register_dataset
from attar.errors import AttarError, unknown

COLUMNS = ("path", "label", "split")
ROLES = ("train", "val", "test")


@dataclass
class Listing:
    """The images of one role."""

    files: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


@register_dataset(
    "manifest", title="Image table", source="your own: a CSV file with the columns path, label[, split]", flip=True
)
def manifest(
    root: Path | None,
    download: bool,
    image_size: int | None,
    *,
    skip_unreadable: bool = False,
    test_fraction: float = 0.2,
    resize_size: int | None = None,
    in_memory: bool | None = None,
    workers: int | None = None,
) -> Splits:
    """Images that a CSV file names, each with its class and perhaps its role: train, val or test.

    Paths start from the file's folder and may not leave it. As with folders, val is the test set where there is no
    test, and without the column split a part is kept for the test, the same in every run.

    Args:
        root: the CSV file.
        download: not needed here.
        image_size, skip_unreadable, test_fraction, resize_size, in_memory, workers: as for the data set "folder".

    Raises:
        AttarError: the file is missing or lacks a column, a path leaves the folder, is missing or has two roles, a
            class has no training image, an image cannot be read, or the images are wanted in memory and do not fit.
    """
    require_pillow()
    if root is None or not root.is_file():
        raise AttarError(f"data set 'manifest' needs a CSV file, {str(root)!r} is none; give data.root=FILE.csv")
    reading = Reading(image_size, resize_size, in_memory, workers, skip_unreadable, test_fraction)
    listings = read_listings(root)
    if not listings["train"].files:
        raise AttarError(f"{root} has no training images; give split=train to some, or leave the column out")
    classes = sorted(set(listings["train"].labels), key=_as_number)
    if len(classes) < 2:
        raise AttarError(f"{root} has 1 class, {classes[0]!r}; expected at least 2")
    number = {name: place for place, name in enumerate(classes)}
    sets = {}
    for role, listing in listings.items():
        if strange := next((label for label in listing.labels if label not in number), None):
            raise AttarError(f"{root}: class {strange!r} has {role} images but none to train on")
        if listing.files:
            labels = [number[label] for label in listing.labels]
            sets[role] = reading.files(root.parent, listing.files, labels, tuple(classes), root.stem)
    if "test" not in sets and "val" in sets:
        sets["test"] = sets.pop("val")
    return reading.splits(sets)


def read_listings(file: Path) -> dict[str, Listing]:
    """The paths and labels of every role in a CSV file, checked.

    Raises:
        AttarError: as `manifest`.
    """
    listings = {role: Listing() for role in ROLES}
    seen: dict[str, int] = {}
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.DictReader(stream)
            _check_columns(file, rows.fieldnames or ())
            for row in rows:
                _enter(row, listings, seen, file, rows.line_num)
    except (UnicodeDecodeError, csv.Error) as error:
        raise AttarError(f"{file} is no CSV file in UTF-8 ({error}); save it as one") from None
    return listings


def _check_columns(file: Path, columns: object) -> None:
    found = [str(column) for column in columns] if isinstance(columns, list | tuple) else []
    for column in found:
        if column not in COLUMNS:
            raise unknown(f"column of {file}:", column, COLUMNS)
    if missing := [column for column in COLUMNS[:2] if column not in found]:
        raise AttarError(
            f"{file} has no column {missing[0]!r}; its first line must name path,label or path,label,split"
        )


def _enter(
    row: dict[str, str | None], listings: dict[str, Listing], seen: dict[str, int], file: Path, line: int
) -> None:
    """Enter one row where it belongs."""
    where = f"{file}, line {line}"
    name, label, role = ((row.get(column) or "").strip() for column in COLUMNS)
    role = role or "train"
    if not name or not label or None in row:
        raise AttarError(f"{where}: expected one path and one label, got {list(row.values())}")
    if role not in ROLES:
        raise unknown(f"split in {where}:", role, ROLES)
    place = Path(name)
    if place.is_absolute() or ".." in place.parts:
        raise AttarError(f"{where}: {name!r} leaves the folder of the table; give paths below it")
    if not (file.parent / place).is_file():
        raise AttarError(f"{where}: there is no file {str(file.parent / place)!r}; mend or remove the line")
    if (earlier := seen.setdefault(str(place), line)) != line:
        raise AttarError(f"{where}: {name!r} is listed in line {earlier} already; list every image once")
    listings[role].files.append(str(place))
    listings[role].labels.append(label)


def _as_number(label: str) -> tuple[int, str]:
    """Classes that are numbers in their order, then names."""
    return (int(label), "") if label.isdecimal() else (2**63, label)
