"""What a data set holds and how its images are varied, before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attar.data import Splits, divided, list_datasets, read_data
from attar.data.overview import Files, inspect_files, split_lines
from attar.data.registry import DATASETS
from attar.errors import AttarError
from attar.files import write_atomically
from attar.recipe import DataRecipe
from attar.report import html
from attar.report.contact_sheet import contact_sheet, enlarged
from attar.report.thumbnails import data_uri, png

# Options of `load_data` that divide what was read.
DIVIDING = ("val_fraction", "train_size", "class_weights")


@dataclass(frozen=True)
class DataCheck:
    """What was found.

    Attributes:
        lines: images and classes of each split, what was left out, what is odd.
        files: the image files; empty where the images are in memory or come from no files.
        sheet: the contact sheet's file; None where it was not wanted.
        page: the same as HTML, for notebooks.
    """

    lines: tuple[str, ...]
    files: Files
    sheet: Path | None
    page: str

    def _repr_html_(self) -> str:
        return self.page


def check_data(
    data: Any = "digits", *, sheet: str | Path | None = "contact-sheet.png", seed: int = 0, **options: Any
) -> DataCheck:
    """Look at a data set as a training would read it; every image file is decoded once.

    Args:
        data: what `attar.load_data` takes: a name, a folder, or objects.
        sheet: the PNG file to write: 8 images down, each as it is and varied 7 times across; None: none.
        seed: of the split of validation images and of the variations.
        options: further arguments of `attar.load_data`: root, image_size, augment, val_fraction (a run's default), ...
            Where a run's default does not divide the images, a line has the reason.

    Raises:
        AttarError: the data cannot be read at all, or the sheet's name does not end in .png.

    >>> check_data("digits", sheet=None).lines[1]
    'train: 854 images, 83 to 87 a class'
    """
    if sheet is not None and Path(sheet).suffix.lower() != ".png":
        raise AttarError(f"the contact sheet is a PNG; {sheet} does not end in .png")
    asked = {key: options.pop(key) for key in DIVIDING if key in options}
    whole = read_data(data, **{**options, **_from_files(data)})
    splits, refusal = _divided(whole, seed, asked)
    files = inspect_files(splits)
    lines = (*split_lines(splits), *files.lines(), *splits.notes, *refusal)
    pixels = enlarged(contact_sheet(splits, seed, files.broken), min(splits.image_shape[1:]))
    if sheet is not None:
        write_atomically(Path(sheet), lambda temporary: temporary.write_bytes(png(pixels)))
    page = f"<pre>{html.escape(chr(10).join(lines))}</pre><img src='{data_uri(pixels)}' alt='training images'>"
    return DataCheck(lines, files, None if sheet is None else Path(sheet), page)


def _divided(whole: Splits, seed: int, asked: dict[str, Any]) -> tuple[Splits, list[str]]:
    """The splits as a run has them, or everything as it was read and a line on why a run would refuse it."""
    if asked:
        return divided(whole, seed=seed, **{"val_fraction": DataRecipe().val_fraction, **asked}), []
    try:
        return divided(whole, DataRecipe().val_fraction, seed), []
    except AttarError as error:
        return whole, [f"a run would be refused: {error}"]


def _from_files(data: Any) -> dict[str, Any]:
    """Image files are to stay files, so that each can be looked at."""
    if not isinstance(data, str | Path):
        return {}
    name = "folder" if str(data) not in list_datasets() else str(data)
    return {"in_memory": False} if "in_memory" in DATASETS[name].options else {}
