"""Labelled image files: a set whose pixels are read when they are needed, or once into memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from attar.data.images import ImageSet
from attar.data.sources.origins import Files, Origin, files_in
from attar.decoding import try_read
from attar.errors import AttarError
from attar.sizes import Size, checked_size, covering, height_width

# ImageNet's, as pretrained networks expect.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False)
class FileSet(ImageSet):
    """An image set whose pixels stay in their files until a `StreamingLoader` asks for them.

    `images` has their shape and no pixels: a tensor on torch's meta device, so that whoever would read it fails at
    once. Make one with `file_set`, or with `encoded_set` where the images lie inside larger files.

    Attributes:
        origin: where the encoded images lie.
        workers: how many processes read them; None: as many as suit the machine.
    """

    origin: Origin = field(default_factory=Files)
    workers: int | None = None

    def path(self, number: int) -> Path:
        """The file of one image; of one inside a larger file, that file and its name there."""
        return self.origin.path(number)

    def read(self, number: int) -> np.ndarray | str:
        """One image's pixels at the stored size, or in one line why there are none."""
        return try_read(lambda: self.origin.open(number), self.stored_size)

    def subset(self, index: Tensor) -> FileSet:
        """The images at these positions, in this order."""
        return replace(
            self,
            images=_no_pixels(len(index), self.stored_size),
            labels=self.labels[index],
            origin=self.origin.subset(index.numpy()),
        )

    def resized(self, size: Size) -> FileSet:
        """Images to be read at another size."""
        size = checked_size("image_size", size)
        wanted = height_width(size)
        scale = covering(wanted, self.image_shape[1:])
        scaled = [max(round(side * scale), least) for side, least in zip(self.stored_size, wanted, strict=True)]
        stored = wanted if self.crop is None else scaled
        return replace(self, images=_no_pixels(len(self), stored), crop=None if self.crop is None else size)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that follow from the images' names and sizes in bytes, the labels and how images are read."""
        seen = (tuple(self.images.shape), self.crop, self.classes, tuple(self.mean), tuple(self.std))
        digest = hashlib.blake2b(repr(seen).encode(), digest_size=8)
        for array in (*self.origin.identity(), self.labels.numpy()):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def file_set(
    root: Path,
    files: Sequence[str],
    labels: Tensor,
    classes: tuple[str, ...],
    name: str,
    size: Size,
    crop: Size | None = None,
    workers: int | None = None,
) -> FileSet:
    """Labelled image files as a set.

    Args:
        root: the folder that the names start from.
        files: the name of every image file.
        labels: (N,) class numbers.
        classes: the name of every class.
        name: what the set is called.
        size: what images are read at: the side of a square, or height and width.
        crop: the central part that networks see; None: all of it.
        workers: how many processes read images; None: as many as suit the machine.
    """
    return encoded_set(files_in(root, list(files)), labels, classes, name, size, crop, workers)


def encoded_set(
    origin: Origin,
    labels: Tensor,
    classes: tuple[str, ...],
    name: str,
    size: Size,
    crop: Size | None = None,
    workers: int | None = None,
    multilabel: bool = False,
) -> FileSet:
    """Labelled images from any origin as a set; the arguments are those of `file_set`, the last that of `ImageSet`."""
    return FileSet(
        _no_pixels(len(origin), size),
        labels,
        classes,
        name,
        MEAN,
        STD,
        crop,
        multilabel=multilabel,
        origin=origin,
        workers=workers,
    )


def _no_pixels(count: int, size: Size) -> Tensor:
    return torch.empty(count, 3, *height_width(size), dtype=torch.uint8, device="meta")


def into_memory(images: FileSet, skip: bool) -> tuple[ImageSet, list[Path]]:
    """Every file decoded, and those that could not be.

    Args:
        images: the files.
        skip: leave out what cannot be read; otherwise refuse it.

    Raises:
        AttarError: a file cannot be read and is not to be skipped, or none of a class can.
    """
    # Pixel by pixel, as files come and as loaders want them.
    pixels = torch.empty(len(images), *images.stored_size, 3, dtype=torch.uint8)

    def decode(place: int) -> str:
        """Why a file cannot be read; "" where it can."""
        found = images.read(place)
        if isinstance(found, str):
            return found
        pixels[place] = torch.from_numpy(found)
        return ""

    # Threads, because Pillow decodes outside the interpreter's lock.
    with ThreadPoolExecutor() as pool:
        reasons = list(pool.map(decode, range(len(images))))
    broken = [place for place, reason in enumerate(reasons) if reason]
    if broken and not skip:
        first, more = broken[0], len(broken) - 1
        others, what = (f" and {more:,} more of {len(images):,}", "them") if more else ("", "it")
        raise AttarError(
            f"cannot read image {images.path(first)} ({reasons[first]}){others}; mend or remove {what}, or give "
            "data.skip_unreadable=true"
        )
    good = torch.tensor([not reason for reason in reasons])
    for number, name in enumerate(images.classes):
        own = images.of_class(number)
        if own.any() and not good[own].any():
            raise AttarError(f"no image of class {name!r} in {images.name} can be read; mend or remove the class")
    held = ImageSet(
        pixels.permute(0, 3, 1, 2),
        images.labels,
        images.classes,
        images.name,
        images.mean,
        images.std,
        images.crop,
        multilabel=images.multilabel,
        files=tuple(map(images.path, range(len(images)))),
    )
    skipped = [images.path(place) for place in (~good).nonzero().flatten().tolist()]
    return held.subset(good.nonzero().flatten()) if skipped else held, skipped
