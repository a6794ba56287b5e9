"""A folder of images of which one in a hundred is broken, streamed by processes."""

from __future__ import annotations

import hashlib
import random
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from attar.data import StreamingLoader, load_data
from attar.errors import AttarError

CLASSES, IMAGES, BROKEN, EPOCHS, SIZE = 10, 2000, 20, 3, 32


def rows(trials: int, seed: int, scratch: Path) -> list[dict[str, Any]]:
    """A row a trial, each with a folder of its own."""
    return [row(random.Random(f"{seed}/{trial}"), scratch / f"folder{trial}") for trial in range(trials)]


def row(draw: random.Random, root: Path) -> dict[str, Any]:
    """One folder, streamed again and again."""
    broken = make(draw, root)
    digest, named = streamed(root, workers=2)
    found = {
        "images": IMAGES,
        "broken": len(broken),
        "named": len(named),
        "the same batches again": streamed(root, workers=2) == (digest, named),
        "and with 0, 1 and 3 processes": all(streamed(root, workers) == (digest, named) for workers in (0, 1, 3)),
        "refused by name in memory": refused(root) in broken,
        "skipped in memory": len(load(root, in_memory=True, skip_unreadable=True).train),
    }
    passed = named == broken and found["skipped in memory"] == IMAGES - BROKEN and all(found.values())
    return {**found, "passed": passed}


def load(root: Path, **settings: Any) -> Any:
    return load_data("folder", root=root, val_fraction=0, image_size=SIZE, **settings)


def streamed(root: Path, workers: int) -> tuple[str, set[Path]]:
    """The digest of all batches of some epochs, and the images that were named as broken."""
    splits, digest = load(root, in_memory=False, skip_unreadable=True), hashlib.sha256()
    loader = StreamingLoader(splits.train, 64, augment=splits.augment, seed=0, epochs=EPOCHS, workers=workers)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for epoch in range(EPOCHS):
            for batch in loader.epoch(epoch):
                digest.update(batch.inputs.numpy().tobytes() + batch.labels.numpy().tobytes())
    named = {splits.train.path(number) for number in loader.unreadable}
    lines = [str(one.message) for one in said if str(one.message).startswith("cannot read image")]
    if len(lines) != len(named) or not all(any(str(file) in line for line in lines) for file in named):
        raise RuntimeError(f"not every broken image has one line: {lines}")
    return digest.hexdigest(), named


def refused(root: Path) -> Path | None:
    """The file that is named where broken images are not to be skipped."""
    try:
        load(root, in_memory=True)
    except AttarError as error:
        return Path(str(error).removeprefix("cannot read image ").partition(" (")[0])
    return None


def make(draw: random.Random, root: Path) -> set[Path]:
    """Small JPEG and PNG files, some of them CMYK or grey, in a folder a class; the broken ones."""
    noise, files = np.random.default_rng(draw.randrange(2**32)), []
    for number in range(IMAGES + 10 * CLASSES):
        role, name = ("train" if number < IMAGES else "test"), f"{number}.{'jpg' if number % 2 else 'png'}"
        file = root / role / f"class{number % CLASSES}" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(noise.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize((40, 36))
        mode = {3: "CMYK", 4: "L"}.get(number % 20, "RGB")
        image.convert(mode).save(file)
        files += [file] if role == "train" else []
    broken = draw.sample(files, BROKEN)
    for number, file in enumerate(broken):
        file.write_bytes((cut, empty, text, huge)[number % 4](file))
    return set(broken)


def cut(file: Path) -> bytes:
    whole = file.read_bytes()
    return whole[: len(whole) // 2]


def empty(file: Path) -> bytes:
    return b""


def text(file: Path) -> bytes:
    return b"<html>404 not found</html>"


def huge(file: Path) -> bytes:
    """A PNG that says it has 3.6 thousand million pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
