"""Image files as pixels, with Pillow and numpy alone: the same pixels that the `folder` data set gives."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from attar.errors import AttarError, first_line

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


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
        inside = (Path(base) / name for base, _, names in os.walk(place) for name in names if not name.startswith("."))
        images = sorted(file for file in inside if file.suffix.lower() in SUFFIXES)
        if not images:
            raise AttarError(f"{place} holds no images ({', '.join(SUFFIXES)}); give another folder, or files")
        found += images
    return found


def require_pillow() -> None:
    """Pillow is optional.

    Raises:
        AttarError: it is not installed.
    """
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise AttarError("reading image files needs Pillow; pip install 'attar[vision]'") from None


def read_pixels(file: Path, channels: int, size: int) -> np.ndarray:
    """One image file as (C, size, size) bytes: upright, RGB or grey, shorter side scaled, centre cut out.

    Args:
        file: any format and mode that Pillow knows.
        channels: 3 for colour, 1 for grey.
        size: side in pixels.

    Raises:
        AttarError: it is missing, no image, or damaged.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            # JPEG decodes faster at a fraction of its size.
            image.draft(None, (size, size))
            upright = _rgb(ImageOps.exif_transpose(image))
            fitted = ImageOps.fit(upright, (size, size), Image.Resampling.BILINEAR)
            pixels = np.array(fitted if channels == 3 else fitted.convert("L"))
    except FileNotFoundError:
        raise AttarError(f"{file} does not exist") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # Pillow's own message repeats the path, or says where in memory the image was.
        reason = "no image that Pillow can read" if "cannot identify" in str(error) else first_line(error)
        raise AttarError(f"cannot read image {file} ({reason})") from None
    return pixels.transpose(2, 0, 1) if channels == 3 else pixels[None]


def centre(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The central (H, W) of images (..., H, W).

    >>> centre(np.arange(5)[None], (1, 3))
    array([[1, 2, 3]])
    """
    top, left = ((have - want) // 2 for have, want in zip(pixels.shape[-2:], size, strict=True))
    return pixels[..., top : top + size[0], left : left + size[1]]


def _rgb(image: Any) -> Any:
    """Any mode as RGB: grey, CMYK, palettes."""
    # 16 bits would be clipped to white, not scaled.
    if image.mode.startswith("I"):
        image = image.point(lambda value: value / 256).convert("L")
    # Pillow wants a palette with transparency to go through RGBA.
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
