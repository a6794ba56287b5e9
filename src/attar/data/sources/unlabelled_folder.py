"""Folders of images without labels: read as the training images they join, or to train on alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from attar.data.file_set import FileSet, file_set, into_memory
from attar.data.images import NO_LABEL, ImageSet
from attar.data.sources.from_files import MEMORY_LIMIT, Reading
from attar.data.sources.image_tree import LeftOut, image_files
from attar.data.sources.origins import files_in
from attar.decoding import SUFFIXES, require_pillow
from attar.errors import AttarError


def unlabelled_images(folder: Path, train: ImageSet, skip_unreadable: bool = False) -> tuple[ImageSet, list[str]]:
    """Every image below a folder, in memory where the training images are, streamed where they are.

    Args:
        folder: of any layout; the names of its folders mean nothing.
        train: what they join: its size, margin around the crop, mean and std hold for them too.
        skip_unreadable: leave out images that cannot be decoded, with a note, and do not stop; streamed ones are
            replaced by the next readable one.

    Returns:
        The set, its labels all -1, and what the user should know about it.

    Raises:
        AttarError: the folder is missing or has no images, an image cannot be read, the training images are not RGB,
            or there is no room in memory.
    """
    names, left = _names(folder, f"data.unlabelled={str(folder)!r}")
    height, width = train.stored_size
    if train.image_shape[0] != 3:
        raise AttarError(
            f"unlabelled images are read as RGB, the images of {train.name!r} have {train.image_shape[0]} channels"
        )
    workers = train.workers if isinstance(train, FileSet) else None
    labels = torch.full((len(names),), NO_LABEL)
    images = file_set(folder, names, labels, train.classes, folder.name, (height, width), train.crop, workers)
    images = replace(images, mean=train.mean, std=train.std)
    if isinstance(train, FileSet):
        return images, left
    if (needed := 3 * height * width * len(images)) > MEMORY_LIMIT:
        raise AttarError(
            f"{len(images)} unlabelled images at {height}x{width} need {needed / 1e9:.1f} GB, above the "
            f"{MEMORY_LIMIT / 1e9:g} GB kept in memory; give data.in_memory=false, which streams all image files"
        )
    held, notes = _held(images, skip_unreadable)
    return held, [*left, *notes]


def all_images(folder: Path, reading: Reading) -> tuple[ImageSet, list[str]]:
    """Every image below a folder of any layout, without labels, in memory or streamed.

    Args:
        folder: the names of its folders mean nothing.
        reading: how they are read.

    Returns:
        The set, its labels all -1, and what the user should know about it.

    Raises:
        AttarError: the folder is missing or has no images, or an image cannot be read.
    """
    names, left = _names(folder, repr(str(folder)))
    images = reading.files(files_in(folder, names), [NO_LABEL] * len(names), (), folder.name)
    if not reading.in_memory_fits({"train": images}):
        return images, left
    held, notes = _held(images, reading.skip_unreadable)
    return held, [*left, *notes]


def _names(folder: Path, what: str) -> tuple[list[str], list[str]]:
    """The images below a folder, and what the user should know of the files that are none."""
    require_pillow()
    if not folder.is_dir():
        raise AttarError(f"{what} is no folder; expected one with images, in any layout")
    left = LeftOut()
    if not (files := image_files(folder, left)):
        raise AttarError(f"{what} has no images ({', '.join(SUFFIXES)})")
    return [str(file.relative_to(folder)) for file in files], left.line(folder)


def _held(images: FileSet, skip_unreadable: bool) -> tuple[ImageSet, list[str]]:
    """The images in memory, and which of them were skipped."""
    held, skipped = into_memory(images, skip_unreadable)
    return held, [f"skipped {len(skipped)} unreadable images of {images.name!r}, first {skipped[0]}"] if skipped else []
