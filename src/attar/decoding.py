"""Image files and Pillow images of any kind as upright RGB bytes: the one decoder behind every road to the networks."""

from __future__ import annotations

import importlib.util
import os
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attar.errors import AttarError, first_line

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from PIL import Image

# Read with the package pillow-heif alone.
HEIC = (".heic", ".heif")
SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"),
    *(HEIC if importlib.util.find_spec("pillow_heif") else ()),
)
# Named, because Pillow starts Ghostscript for an EPS file whatever it is called.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "HEIF", "AVIF")
# Folders that systems and tools leave behind.
SYSTEM = frozenset(("__macosx", "__pycache__", "@eadir", "$recycle.bin", "system volume information", "lost+found"))
# Pixels in one image as it is decoded: Pillow's own limit, which it only warns about.
MOST_PIXELS = 89_478_485
# Above so many pixels (about 7 bytes each), images are decoded one at a time on a machine.
LARGE = 16_000_000


def read_image(file: Path | BytesIO, size: int | tuple[int, int]) -> np.ndarray:
    """One image file as (H, W, 3) bytes: upright, RGB, scaled until it covers `size`, its centre cut out.

    Args:
        file: the file, or its bytes.
        size: height and width in pixels, or the side of a square.

    Raises:
        AttarError: it has more than `MOST_PIXELS` pixels, or float or 32-bit values outside the known ranges.
        OSError, SyntaxError, ValueError: it is missing or damaged, or of a format not in `FORMATS`.
    """
    height, width = (size, size) if isinstance(size, int) else size
    pillow, formats = _pillow()
    with pillow.open(file, formats=formats) as image:
        # JPEG decodes faster at a fraction of its size.
        image.draft(None, (max(height, width),) * 2)
        pixels = image.width * image.height
        if pixels > MOST_PIXELS:
            raise AttarError(f"{pixels / 1e6:.0f} megapixels, above the {MOST_PIXELS / 1e6:.0f} that are read")
        with _one_at_a_time(pixels > LARGE):
            return fitted(image, (height, width))


def not_black(file: Path) -> np.ndarray:
    """(H, W), true where an image file, upright, is not black; values of 16 bits and floats count as they are.

    Raises:
        OSError, SyntaxError, ValueError: it is missing or damaged, or of a format not in `FORMATS`.
    """
    pillow, formats = _pillow()
    with pillow.open(file, formats=formats) as opened:
        image = upright(opened)
        deep = image.mode.startswith("I") or image.mode == "F"  # as bytes, small values would be black
        return np.asarray(image) > 0 if deep else np.asarray(to_rgb(image)).max(axis=2) > 0


def left_by_systems(folder: str) -> bool:
    """Whether a folder of this name is hidden, or one that systems and tools leave behind.

    >>> [left_by_systems(name) for name in (".ipynb_checkpoints", "__MACOSX", "cats")]
    [True, True, False]
    """
    return folder.startswith(".") or folder.lower() in SYSTEM


def image_header(file: Path | BytesIO) -> tuple[tuple[int, int], str]:
    """Width and height of an image file as it is shown, upright, and its format ("JPEG"); no pixel is decoded.

    Raises:
        OSError, SyntaxError, ValueError: it is missing or damaged, or of a format not in `FORMATS`.
    """
    from PIL import ExifTags

    pillow, formats = _pillow()
    with pillow.open(file, formats=formats) as image:
        width, height = image.size
        sideways = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
        return (height, width) if sideways else (width, height), image.format


def fitted(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """An open Pillow image as (H, W, 3) bytes, scaled and cut as `read_image` does it."""
    from PIL import Image, ImageOps

    return np.array(ImageOps.fit(to_rgb(upright(image)), size[::-1], Image.Resampling.BILINEAR))


def reason(error: BaseException) -> str:
    """Why an image cannot be read, without its file, which whoever asks names.

    >>> reason(OSError("cannot identify image file 'photos/cat.jpg'"))
    'cannot identify image file'
    """
    unknown = "cannot identify image file"
    return unknown if unknown in (line := first_line(error)) else line


def try_read(opened: Callable[[], Path | BytesIO], size: int | tuple[int, int]) -> np.ndarray | str:
    """The pixels of what `opened` gives, as `read_image` has them, or in one line why there are none."""
    try:
        return read_image(opened(), size)
    except MemoryError:
        raise
    except Exception as error:  # damaged files fail in many ways that mean the same
        return reason(error)


def upright(image: Image.Image) -> Image.Image:
    """A Pillow image turned as its EXIF orientation asks; the image itself is left as it is."""
    from PIL import ExifTags, ImageOps

    turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    return ImageOps.exif_transpose(image) if turned else image


def to_rgb(image: Image.Image) -> Image.Image:
    """A Pillow image of any mode as RGB: grey, 16-bit, float, palette, CMYK; transparency is dropped.

    16-bit values 0..65535 become their upper 8 bits. Float values in 0..1 are multiplied by 255; others must be
    in 0..255 and are rounded.

    Raises:
        AttarError: values of a float or 32-bit image are outside those ranges.

    >>> from PIL import Image
    >>> to_rgb(Image.new("F", (1, 1), 0.5)).getpixel((0, 0))
    (128, 128, 128)
    """
    if image.mode.startswith("I") or image.mode == "F":
        image = _in_bytes(np.asarray(image))
    # Pillow wants a palette with transparency to go through RGBA.
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _in_bytes(values: np.ndarray) -> Image.Image:
    """Grey values of more than 8 bits as a grey image of 8 bits."""
    from PIL import Image

    whole = values.dtype.kind in "iu"
    least, most = values.min(), values.max()
    if not 0 <= least <= most <= (65535 if whole else 255):
        expected = "16-bit values 0..65535" if whole else "floats in 0..1 or 0..255"
        raise AttarError(f"its pixels have values {least:.5g}..{most:.5g}; expected {expected}")
    scaled = values // 256 if whole else np.rint(values * (255 if most <= 1 else 1))
    return Image.fromarray(scaled.astype(np.uint8))


def require_pillow() -> None:
    """Pillow is optional.

    Raises:
        AttarError: it is not installed.
    """
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise AttarError("reading image files needs Pillow; pip install 'attar[vision]'") from None


@cache
def _pillow() -> tuple[Any, tuple[str, ...]]:
    """Pillow's module of images with every decoder registered, and which of `FORMATS` it can read."""
    from PIL import Image

    Image.init()
    if HEIC[0] in SUFFIXES:
        importlib.import_module("pillow_heif").register_heif_opener()
    # Pillow warns above the limit that is refused here.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    return Image, tuple(name for name in FORMATS if name in Image.OPEN)


_threads = threading.Lock()


@contextmanager
def _one_at_a_time(wait: bool) -> Iterator[None]:
    """Where asked, wait until no other thread or process of this user decodes a large image."""
    if not wait:
        yield
    elif fcntl is None:
        with _threads:
            yield
    else:
        # A lock on a file ends with its process, however that ends.
        place = Path(tempfile.gettempdir()) / f"attar-large-image-{os.getuid()}.lock"
        handle = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            # Closing does not release it where a process was forked meanwhile.
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_UN)
            os.close(handle)
