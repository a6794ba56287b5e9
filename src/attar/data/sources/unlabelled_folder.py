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
    require_pillow()
    if not folder.is_dir():
        raise AttarError(f"data.unlabelled={str(folder)!r} is no folder; expected one with images, in any layout")
    left = LeftOut()
    if not (files := image_files(folder, left)):
        raise AttarError(f"data.unlabelled={str(folder)!r} has no images ({', '.join(SUFFIXES)})")
    height, width = train.stored_size
    if train.image_shape[0] != 3:
        raise AttarError(
            f"unlabelled images are read as RGB, the images of {train.name!r} have {train.image_shape[0]} channels"
        )
    names = [str(file.relative_to(folder)) for file in files]
    workers = train.workers if isinstance(train, FileSet) else None
    labels = torch.full((len(names),), NO_LABEL)
    images = file_set(folder, names, labels, train.classes, folder.name, (height, width), train.crop, workers)
    images = replace(images, mean=train.mean, std=train.std)
    if isinstance(train, FileSet):
        return images, left.line(folder)
    if (needed := 3 * height * width * len(images)) > MEMORY_LIMIT:
        raise AttarError(
            f"{len(images)} unlabelled images at {height}x{width} need {needed / 1e9:.1f} GB, above the "
            f"{MEMORY_LIMIT / 1e9:g} GB kept in memory; give data.in_memory=false, which streams all image files"
        )
    held, skipped = into_memory(images, skip_unreadable)
    notes = [f"skipped {len(skipped)} unreadable images of {folder.name!r}, first {skipped[0]}"] if skipped else []
    return held, [*left.line(folder), *notes]


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
    require_pillow()
    if not folder.is_dir():
        raise AttarError(f"{str(folder)!r} is no folder; expected one with images, in any layout")
    left = LeftOut()
    if not (files := image_files(folder, left)):
        raise AttarError(f"{str(folder)!r} has no images ({', '.join(SUFFIXES)})")
    origin = files_in(folder, [str(file.relative_to(folder)) for file in files])
    images = reading.files(origin, [NO_LABEL] * len(files), (), folder.name)
    if not reading.in_memory_fits({"train": images}):
        return images, left.line(folder)
    held, skipped = into_memory(images, reading.skip_unreadable)
    notes = [f"skipped {len(skipped)} unreadable images of {folder.name!r}, first {skipped[0]}"] if skipped else []
    return held, [*left.line(folder), *notes]
