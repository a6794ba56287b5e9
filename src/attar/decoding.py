"""Image files of any kind as square RGB bytes, with Pillow and numpy alone."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from attar.errors import AttarError, first_line

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


def read_image(file: Path | BytesIO, size: int) -> np.ndarray:
    """One image file as (size, size, 3) bytes: upright, RGB, shorter side scaled to `size`, centre cut out."""
    from PIL import Image, ImageOps

    with Image.open(file) as image:
        # JPEG decodes faster at a fraction of its size.
        image.draft(None, (size, size))
        ImageOps.exif_transpose(image, in_place=True)
        return np.array(ImageOps.fit(_rgb(image), (size, size), Image.Resampling.BILINEAR))


def try_read(opened: Callable[[], Path | BytesIO], size: int) -> np.ndarray | str:
    """The pixels of what `opened` gives, as `read_image` has them, or in one line why there are none."""
    try:
        return read_image(opened(), size)
    except MemoryError:
        raise
    except Exception as error:  # damaged files fail in many ways that mean the same
        return first_line(error)


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode as RGB: grey, CMYK, palettes."""
    # 16 bits would be clipped to white, not scaled.
    if image.mode.startswith("I"):
        image = image.point(lambda value: value / 256).convert("L")
    # Pillow wants a palette with transparency to go through RGBA.
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def require_pillow() -> None:
    """Pillow is optional.

    Raises:
        AttarError: it is not installed.
    """
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise AttarError("reading image files needs Pillow; pip install 'attar[vision]'") from None
