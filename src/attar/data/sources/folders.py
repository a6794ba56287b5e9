"""Photographs in a folder a class."""

from __future__ import annotations

import os
from pathlib import Path

from attar.data.images import Splits
from attar.data.registry import register_dataset
from attar.data.sources.from_files import Reading
from attar.data.sources.origins import files_in
from attar.decoding import SUFFIXES, require_pillow
from attar.errors import AttarError


@register_dataset(
    "folder", title="Image folder", source="your own: ROOT/CLASS/IMAGE, or ROOT/{train,val,test}/CLASS/IMAGE", flip=True
)
def folder(
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
    """Images in a folder a class, as square RGB.

    With train/ and test/ the test images come from there, and the validation images from val/ where it exists.
    With train/ and val/ alone, val/ is the test set, as ImageNet uses it. A single folder of classes gives a test set
    that is the same in every run.

    Args:
        root: the folder.
        download: not needed here.
        image_size: side in pixels of what networks see; None: 64.
        skip_unreadable: leave out images that cannot be decoded, with a note, instead of stopping. Streamed images
            are only known to be unreadable once it is their turn: see `StreamingLoader`.
        test_fraction: the part tested on where there is no folder for it.
        resize_size: side in pixels that images are read at: the shorter side is scaled to it and the centre cut out.
            Networks are tested on the central image_size of it, and augment.resized_crop uses all of it (ImageNet:
            256 and 224). None: image_size.
        in_memory: whether all images are decoded once into memory; None: where that takes at most 2 GB. Otherwise
            they are streamed from their files, every epoch anew; what networks see is the same.
        workers: processes that read streamed images; 0: none but the main one; None: as many as suit the machine.

    Raises:
        AttarError: a folder or a class is missing or empty, classes differ, an image cannot be read, or the images
            are wanted in memory and do not fit.
    """
    require_pillow()
    if root is None:
        raise AttarError("data set 'folder' needs the folder of images; give data.root=")
    reading = Reading(image_size, resize_size, in_memory, workers, skip_unreadable, test_fraction)
    places = _places(root)
    listings = {role: _listing(place) for role, place in places.items()}
    _check_classes(places, listings)
    sets = {}
    for role, classes in listings.items():
        files = [str(file.relative_to(places[role])) for members in classes.values() for file in members]
        labels = [number for number, members in enumerate(classes.values()) for _ in members]
        sets[role] = reading.files(files_in(places[role], files), labels, tuple(classes), root.name)
    return reading.splits(sets)


def _places(root: Path) -> dict[str, Path]:
    """Which folder plays which role."""
    if not root.is_dir():
        raise AttarError(
            f"data.root={str(root)!r} is no folder; expected one with a folder per class, or train/ and val/"
        )
    if not (root / "train").is_dir():
        return {"train": root}
    return {role: root / role for role in ("train", "val", "test") if (root / role).is_dir()}


def _listing(place: Path) -> dict[str, list[Path]]:
    """The image files of every class, both sorted."""
    folders = sorted(entry for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if len(folders) < 2:
        raise AttarError(f"{place} has {len(folders)} class folders; expected at least 2, each with its images")
    classes = {entry.name: image_files(entry) for entry in folders}
    if empty := [name for name, files in classes.items() if not files]:
        raise AttarError(
            f"class {empty[0]!r} in {place} has no images ({', '.join(SUFFIXES)}); fill or remove the folder"
        )
    return classes


def image_files(place: Path) -> list[Path]:
    """Every image file below a folder, sorted."""
    found = (Path(base) / name for base, _, names in os.walk(place) for name in names if not name.startswith("."))
    return sorted(file for file in found if file.suffix.lower() in SUFFIXES)


def _check_classes(places: dict[str, Path], listings: dict[str, dict[str, list[Path]]]) -> None:
    """The same classes must be in every folder."""
    for role, classes in listings.items():
        if differing := sorted(classes.keys() ^ listings["train"].keys()):
            named = ", ".join(map(repr, differing[:5])) + (", ..." if len(differing) > 5 else "")
            raise AttarError(
                f"{places['train']} and {places[role]} have different classes: {named} only in one of them"
            )
