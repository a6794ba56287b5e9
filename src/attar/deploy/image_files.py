"""Image files as pixels, with Pillow and numpy alone: the same pixels that the `folder` data set gives."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from attar.decoding import SUFFIXES, left_by_systems, read_image
from attar.errors import AttarError, first_line


def image_files(places: Iterable[str | Path]) -> list[Path]:
    """The files given, and the image files below the folders given, sorted within each.

    Raises:
        AttarError: a folder holds no image.
    """
    found: list[Path] = []
    for place in map(Path, places):
        # A file that does not exist is reported beside the others' predictions.
        if not place.is_dir():
            found.append(place)
            continue
        images = sorted(file for file in _inside(place) if file.suffix.lower() in SUFFIXES)
        if not images:
            raise AttarError(f"{place} holds no images ({', '.join(SUFFIXES)}); give another folder, or files")
        found += images
    return found


def _inside(place: Path) -> Iterator[Path]:
    """The files below a folder that are not hidden and lie in no folder that systems leave behind."""
    for base, folders, names in os.walk(place):
        folders[:] = [name for name in folders if not left_by_systems(name)]
        yield from (Path(base) / name for name in names if not name.startswith("."))


def read_pixels(file: Path, channels: int, size: int | tuple[int, int]) -> np.ndarray:
    """One image file as (C, H, W) bytes: upright, RGB or grey, scaled until it covers the size, centre cut out.

    Args:
        file: any format and mode that Pillow reads.
        channels: 3 for colour, 1 for grey.
        size: side in pixels, or height and width.

    Raises:
        AttarError: it is missing, no image, or damaged.
    """
    from PIL import Image

    try:
        pixels = read_image(file, size)
    except FileNotFoundError:
        raise AttarError(f"{file} does not exist") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # Pillow's own message repeats the path, or names an address in memory.
        reason = "no image that Pillow can read" if "cannot identify" in str(error) else first_line(error)
        raise AttarError(f"cannot read image {file} ({reason})") from None
    return pixels.transpose(2, 0, 1) if channels == 3 else np.array(Image.fromarray(pixels).convert("L"))[None]


def centre(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The central (H, W) of images (..., H, W).

    >>> centre(np.arange(5)[None], (1, 3))
    array([[1, 2, 3]])
    """
    top, left = ((have - want) // 2 for have, want in zip(pixels.shape[-2:], size, strict=True))
    return pixels[..., top : top + size[0], left : left + size[1]]
