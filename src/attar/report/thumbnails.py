"""The images on which teacher and student part: kept small beside the run, shown as PNG inside the page."""

from __future__ import annotations

import base64
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from attar.data import ImageSet, eval_batches
from attar.files import write_atomically
from attar.metrics.confusions import disagreements
from attar.records import damaged, read_arrays
from attar.report.run_files import WITHOUT, RunFiles

# So many images, each with a longer side of at most so many pixels.
SHOWN, SIDE = 24, 48
FILE = "pictures.npz"


def save_pictures(run: RunFiles, images: ImageSet) -> None:
    """Keep the test images that the report of a run shows; nothing where there is no teacher to part from."""
    numbers = shown(run)
    if not numbers:
        return
    batch = next(iter(eval_batches(images.subset(torch.tensor(numbers)), len(numbers))))
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (images.mean, images.std))
    small = _small((batch.images.cpu().float() * std + mean).clamp(0, 1))
    pixels = (255 * small).round().byte().numpy()
    names = ["" if (path := images.path(number)) is None else "/".join(path.parts[-2:]) for number in numbers]

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, numbers=np.array(numbers), pixels=pixels, names=np.array(names))

    write_atomically(run.folder / FILE, write)


def shown(run: RunFiles) -> list[int]:
    """The numbers of the images in the test set on which the first seed's student leaves its teacher furthest."""
    student, teacher = run.predictions("student"), run.predictions("teacher") if run.summary.teachers else []
    if not student or not teacher or len(student[0]) != len(teacher[0]):
        return []
    return disagreements(student[0], teacher[0], SHOWN)


def load_pictures(folder: Path) -> dict[int, tuple[np.ndarray, str]]:
    """The kept images (C, H, W), uint8, each with the end of its file's path, by their number; none without a file.

    Raises:
        AttarError: the file is damaged.
    """
    file = folder / FILE
    if not file.is_file():
        return {}
    arrays = read_arrays(file, WITHOUT)
    if not {"numbers", "pixels"} <= arrays.keys() <= {"numbers", "pixels", "names"}:
        raise damaged(file, f"it holds {', '.join(sorted(arrays)) or 'nothing'}", WITHOUT)
    numbers, pixels = arrays["numbers"], arrays["pixels"]
    # Runs of older versions kept no names.
    names = arrays.get("names", np.array([""] * len(numbers)))
    if names.dtype.kind != "U" or names.shape != numbers.shape:
        raise damaged(file, f"names is {names.dtype} {names.shape}", WITHOUT)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or not pixels.size:
        raise damaged(file, f"pixels is {pixels.dtype} {pixels.shape}", WITHOUT)
    if numbers.dtype.kind != "i" or numbers.shape != pixels.shape[:1] or (len(numbers) and numbers.min() < 0):
        raise damaged(file, f"numbers is {numbers.dtype} {numbers.shape}", WITHOUT)
    return dict(zip(numbers.tolist(), zip(pixels, names.tolist(), strict=True), strict=True))


def png(pixels: np.ndarray) -> bytes:
    """An image (C, H, W), uint8, of one channel or three as a PNG file; of other numbers of channels the first.

    >>> png(np.zeros((3, 2, 2), np.uint8))[:4]
    b'\\x89PNG'
    """
    pixels = pixels if len(pixels) == 3 else pixels[:1]
    channels, height, width = pixels.shape
    rows = np.ascontiguousarray(pixels.transpose(1, 2, 0)).reshape(height, width * channels)
    # Every row begins with its filter; 0 is none.
    raw = np.concatenate([np.zeros((height, 1), np.uint8), rows], 1).tobytes()
    head = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(raw, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def data_uri(pixels: np.ndarray) -> str:
    """The same for an <img> element."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _small(images: torch.Tensor) -> torch.Tensor:
    longest = max(images.shape[-2:])
    if longest <= SIDE:
        return images
    size = [max(1, round(side * SIDE / longest)) for side in images.shape[-2:]]
    return F.interpolate(images, size, mode="bilinear", antialias=True)
