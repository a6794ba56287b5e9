"""Images listed in a table: a CSV or Parquet file with the columns path, label and perhaps split."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np

from attar.data.images import Splits
from attar.data.registry import register_dataset
from attar.data.sources.from_files import Reading
from attar.data.sources.listings import splits_of
from attar.data.sources.origins import Origin, files_in
from attar.data.sources.parquet import ParquetTable
from attar.data.sources.split_names import ROLES, role_of
from attar.decoding import require_pillow
from attar.errors import AttarError, unknown
from attar.sizes import Size

COLUMNS = ("path", "label", "split")
PARQUET = (".parquet", ".pq")


@dataclass
class Listing:
    """The images of one role: each one's path, or the row that holds it, and the name of its class."""

    items: list[Any] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


@register_dataset(
    "manifest",
    title="Image table",
    source="your own: a CSV or Parquet file with the columns path, label[, split]",
    flip=True,
)
def manifest(
    root: Path | None,
    download: bool,
    image_size: Size | None,
    *,
    skip_unreadable: bool = False,
    test_fraction: float = 0.2,
    resize_size: Size | None = None,
    in_memory: bool | None = None,
    workers: int | None = None,
) -> Splits:
    """Images that a table names, each with its class and perhaps its role: train, val or test.

    The table is a CSV file in UTF-8 or a Parquet file. Paths start from the table's folder and may not leave it. As
    with folders, val is the test set where there is no test, and without the column split a part is kept for the
    test, the same in every run. A Parquet file may hold the images themselves in a column image in place of paths:
    bytes, or {bytes, path} as Hugging Face datasets writes them.

    Args:
        root: the CSV or Parquet file.
        download: not needed here.
        image_size, skip_unreadable, test_fraction, resize_size, in_memory, workers: as for the data set "folder".

    Raises:
        AttarError: the file is missing or lacks a column, a path leaves the folder, is missing or has two roles, a
            class has no training image, an image cannot be read, or the images are wanted in memory and do not fit.
    """
    require_pillow()
    if root is None or not root.is_file():
        none = "" if root is None else f", {str(root)!r} is none"
        raise AttarError(f"data set 'manifest' needs a CSV or Parquet file{none}; give data.root=FILE.csv")
    reading = Reading(image_size, resize_size, in_memory, workers, skip_unreadable, test_fraction)
    listings, origins = read_parquet(root) if root.suffix.lower() in PARQUET else read_csv(root)
    labels = {role: listing.labels for role, listing in listings.items()}
    return splits_of(labels, origins, reading, root)


Read = tuple[dict[str, Listing], dict[str, Origin]]


def read_csv(file: Path) -> Read:
    """The images of every role in a CSV file, checked, and where they lie.

    Raises:
        AttarError: as `manifest`.
    """
    entries = Entries(file, "line")
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.DictReader(stream)
            check_columns(file, list(rows.fieldnames or ()), "its first line must name path,label or path,label,split")
            for row in rows:
                entries.enter(row, rows.line_num)
    except (UnicodeDecodeError, csv.Error) as error:
        raise AttarError(f"{file} is no CSV file in UTF-8 ({error}); save it as one") from None
    return entries.listings, entries.files()


def read_parquet(file: Path) -> Read:
    """The images of every role in a Parquet file, checked, and where they lie: beside it or in it.

    Raises:
        AttarError: as `manifest`.
    """
    table = ParquetTable(file)
    columns = ("image", *COLUMNS[1:]) if table.embedded else COLUMNS
    check_columns(file, table.columns, "it needs path,label[,split], or image,label[,split]", columns)
    entries = Entries(file, "row")
    for place, row in enumerate(table.rows([column for column in COLUMNS if column in table.columns])):
        entries.enter(row, place + 1, place if table.embedded else None)
    if not table.embedded:
        return entries.listings, entries.files()
    images = table.images()
    rows = {role: np.array(listing.items, np.int64) for role, listing in entries.listings.items()}
    return entries.listings, {role: images.subset(own) for role, own in rows.items()}


def check_columns(file: Path, found: Sequence[str], remedy: str, known: Sequence[str] = COLUMNS) -> None:
    """Refuse columns that mean nothing here, and a table without those it needs."""
    for column in found:
        if column not in known:
            raise unknown(f"column of {file}:", column, known)
    if missing := [column for column in known[:2] if column not in found]:
        raise AttarError(f"{file} has no column {missing[0]!r}; {remedy}")


class Entries:
    """Takes a table's rows one by one and enters each where it belongs.

    Args:
        file: the table.
        unit: what a row is called there ("line").
        optional: whether an image may have no label.
    """

    def __init__(self, file: Path, unit: str, optional: bool = False) -> None:
        self.file, self.unit, self.optional = file, unit, optional
        self.listings = {role: Listing() for role in ROLES}
        self._seen: dict[str, int] = {}

    def enter(self, row: Mapping[str, str | None], number: int, item: int | None = None) -> None:
        """Enter one row.

        Args:
            row: a text for each column; None as a key: more than the columns.
            number: where it stands in the table.
            item: what finds the image, where that is no path.
        """
        where = f"{self.file}, {self.unit} {number}"
        name, label, split = ((row.get(column) or "").strip() for column in COLUMNS)
        label = normalize("NFC", label)  # both ways of writing an accent are one class, as in names of folders
        role = role_of(split or "train")
        if not (label or self.optional) or None in row or not (name or item is not None):
            image = "path" if item is None else "image"
            raise AttarError(f"{where}: expected one {image} and one label, got {list(row.values())}")
        if role is None:
            raise unknown(f"split in {where}:", split, ROLES)
        self.listings[role].items.append(self._path(name, where, number) if item is None else item)
        self.listings[role].labels.append(label)

    def files(self) -> dict[str, Origin]:
        """Where the images of each role lie, if their paths were entered."""
        return {role: files_in(self.file.parent, listing.items) for role, listing in self.listings.items()}

    def _path(self, name: str, where: str, number: int) -> str:
        """A path that stays below the table's folder, exists, and was not listed before."""
        place = Path(name)
        if place.is_absolute() or ".." in place.parts:
            raise AttarError(f"{where}: {name!r} leaves the folder of the table; give paths below it")
        if not (self.file.parent / place).is_file():
            raise AttarError(
                f"{where}: there is no file {str(self.file.parent / place)!r}; mend or remove the {self.unit}"
            )
        if (earlier := self._seen.setdefault(str(place), number)) != number:
            raise AttarError(f"{where}: {name!r} is listed in {self.unit} {earlier} already; list every image once")
        return str(place)
