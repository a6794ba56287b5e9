"""Images with any number of labels each, listed in a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from unicodedata import normalize

from attar.data.images import Splits
from attar.data.registry import register_dataset
from attar.data.sources.from_files import Reading
from attar.data.sources.image_tree import listed
from attar.data.sources.manifest import Entries
from attar.decoding import require_pillow
from attar.errors import AttarError
from attar.sizes import Size

PATH, LABELS, SPLIT = "path", "labels", "split"
# Between the labels of an image in the column labels.
SEPARATOR = ";"
REMEDY = "its first line must name path,labels[,split], or path[,split] and a column of 0 and 1 for each label"


@register_dataset(
    "label_table",
    title="Table of images with several labels",
    source="your own: a CSV file with the columns path, labels[, split]",
    flip=True,
)
def label_table(
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
    """Images that a table names, each with any number of labels and perhaps its role: train, val or test.

    The table is a CSV file in UTF-8. The labels of an image stand in one column "labels", separated by semicolons and
    empty where there are none; or every label has a column of its own that holds 0 or 1. Paths and roles are as for the
    data set "manifest".

    Args:
        root: the CSV file.
        download: not needed here.
        image_size, skip_unreadable, test_fraction, resize_size, in_memory, workers: as for the data set "folder".

    Raises:
        AttarError: the file is missing or damaged, a path leaves the folder, is missing or is listed twice, there are
            no labels or no training images, a label has no training image, or as `Reading.splits`.
    """
    require_pillow()
    if root is None or not root.is_file():
        raise AttarError(f"data set 'label_table' needs a CSV file, {str(root)!r} is none; give data.root=FILE.csv")
    reading = Reading(image_size, resize_size, in_memory, workers, skip_unreadable, test_fraction)
    entries, names = read_table(root)
    origins = entries.files()
    sets = {role: [one.split(SEPARATOR) for one in listing.labels] for role, listing in entries.listings.items()}
    if not sets["train"]:
        raise AttarError(f"{root} has no training images; give some of them the split train, or name no splits")
    names = names or tuple(sorted({label for rows in sets.values() for row in rows for label in row} - {""}))
    if not names:
        raise AttarError(f"{root} names no label; {REMEDY}")
    trained = {label for row in sets["train"] for label in row}
    if missing := [name for name in names if name not in trained]:
        raise AttarError(f"{root}: no training image has the label {listed(missing)}; add some, or leave the label out")
    files = {
        role: reading.files(origins[role], [[name in row for name in names] for row in rows], names, root.stem, True)
        for role, rows in sets.items()
        if rows
    }
    return reading.splits(files)


def read_table(file: Path) -> tuple[Entries, tuple[str, ...]]:
    """The images of every role, checked, each with its labels as one text, and the labels where columns name them.

    Raises:
        AttarError: as `label_table`.
    """
    entries = Entries(file, "line", optional=True)
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.DictReader(stream)
            rows.fieldnames = [normalize("NFC", column.strip()) for column in rows.fieldnames or ()]
            names = label_columns(file, rows.fieldnames)
            for row in rows:
                found = marked(row, names, f"{file}, line {rows.line_num}") if names else split_up(row)
                labels = {"label": SEPARATOR.join(found)}
                entries.enter({**row, **labels}, rows.line_num)
    except (UnicodeDecodeError, csv.Error) as error:
        raise AttarError(f"{file} is no CSV file in UTF-8 ({error}); save it as one") from None
    return entries, names


def label_columns(file: Path, columns: Sequence[str]) -> tuple[str, ...]:
    """The labels that have a column each; none where the column "labels" holds them.

    Raises:
        AttarError: a column is missing, has no name or occurs twice, or a label has a semicolon.
    """
    if PATH not in columns:
        raise AttarError(f"{file} has no column {PATH!r}; {REMEDY}")
    others = [column for column in columns if column not in (PATH, SPLIT)]
    if LABELS in others:
        if len(others) > 1:
            raise AttarError(f"{file} has the columns {LABELS!r} and {listed(set(others) - {LABELS})}; {REMEDY}")
        return ()
    if not others or len({*columns}) < len(columns) or any(not name or SEPARATOR in name for name in others):
        raise AttarError(f"{file} has the columns {listed(columns)}; {REMEDY}")
    return tuple(others)


def split_up(row: Mapping[str, str | None]) -> list[str]:
    """The labels in the column "labels".

    >>> split_up({"labels": "dog; cat;"})
    ['dog', 'cat']
    """
    return [label for one in (row.get(LABELS) or "").split(SEPARATOR) if (label := one.strip())]


def marked(row: Mapping[str, str | None], names: Sequence[str], where: str) -> list[str]:
    """The labels whose column holds 1.

    Raises:
        AttarError: a column holds something else than 0 or 1.

    >>> marked({"cat": "1", "dog": "0"}, ["cat", "dog"], "pets.csv, line 2")
    ['cat']
    """
    for name in names:
        if (mark := (row.get(name) or "").strip()) not in ("0", "1"):
            raise AttarError(f"{where}: column {name!r} holds {mark!r}; give 0 or 1")
    return [name for name in names if (row.get(name) or "").strip() == "1"]
