"""Photographs in a folder a class, decoded once into memory."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from attar.data.images import ImageSet, Splits
from attar.data.registry import register_dataset
from attar.data.split import stratified_split
from attar.errors import AttarError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
MEMORY_LIMIT = 2 * 10**9  # bytes of decoded pixels
# ImageNet's, as pretrained networks expect.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Fixed, so that no run ever trains on an image that another run is tested on.
TEST_SEED = 0


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
) -> Splits:
    """Images in a folder a class, as square RGB.

    With train/ and test/ the test images come from there, and the validation images from val/ where it exists.
    With train/ and val/ alone, val/ is the test set, as ImageNet uses it. A single folder of classes gives a test set
    that is the same in every run.

    Args:
        root: the folder.
        download: not needed here.
        image_size: side in pixels: the shorter side is scaled to it and the centre cut out; None: 64.
        skip_unreadable: leave out images that cannot be decoded, with a note, instead of stopping.
        test_fraction: the part tested on where there is no folder for it.

    Raises:
        AttarError: a folder or a class is missing or empty, classes differ, an image cannot be read, or the decoded
            images would not fit into memory.
    """
    _require_pillow()
    if root is None:
        raise AttarError("data set 'folder' needs the folder of images; give data.root=")
    size = 64 if image_size is None else image_size
    if size < 1:
        raise AttarError(f"image_size must be at least 1 pixel, got {size}")
    places = _places(root)
    listings = {role: _listing(place) for role, place in places.items()}
    _check_classes(places, listings)
    _check_memory(root, sum(len(files) for classes in listings.values() for files in classes.values()), size)
    sets, notes = {}, []
    for role, classes in listings.items():
        sets[role], skipped = _decode(root.name, classes, size, skip_unreadable)
        if skipped:
            notes.append(f"skipped {len(skipped)} unreadable images of {places[role]}, first {skipped[0]}")
    if "test" not in sets:
        rest, part = stratified_split(sets["train"].labels, test_fraction, TEST_SEED)
        sets["train"], sets["test"] = sets["train"].subset(rest), sets["train"].subset(part)
    return Splits(sets["train"], sets["test"], sets.get("val"), notes=tuple(notes))


def read_image(file: Path, size: int) -> np.ndarray:
    """One image file as (size, size, 3) bytes: upright, RGB, shorter side scaled to `size`, centre cut out."""
    from PIL import Image, ImageOps

    with Image.open(file) as image:
        # JPEG decodes faster at a fraction of its size.
        image.draft(None, (size, size))
        upright = ImageOps.exif_transpose(image)
        return np.array(ImageOps.fit(_rgb(upright), (size, size), Image.Resampling.BILINEAR))


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode as RGB: grey, CMYK, palettes."""
    # 16 bits would be clipped to white, not scaled.
    if image.mode.startswith("I"):
        image = image.point(lambda value: value / 256).convert("L")
    # Pillow wants a palette with transparency to go through RGBA.
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _places(root: Path) -> dict[str, Path]:
    """Which folder plays which role."""
    if not root.is_dir():
        raise AttarError(
            f"data.root={str(root)!r} is no folder; expected one with a folder per class, or train/ and val/"
        )
    if not (root / "train").is_dir():
        return {"train": root}
    held_out = [role for role in ("val", "test") if (root / role).is_dir()]
    if held_out == ["val"]:
        return {"train": root / "train", "test": root / "val"}
    return {role: root / role for role in ("train", *held_out)}


def _listing(place: Path) -> dict[str, list[Path]]:
    """The image files of every class, both sorted."""
    folders = sorted(entry for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if len(folders) < 2:
        raise AttarError(f"{place} has {len(folders)} class folders; expected at least 2, each with its images")
    classes = {entry.name: _files(entry) for entry in folders}
    if empty := [name for name, files in classes.items() if not files]:
        raise AttarError(
            f"class {empty[0]!r} in {place} has no images ({', '.join(SUFFIXES)}); fill or remove the folder"
        )
    return classes


def _files(place: Path) -> list[Path]:
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


def _check_memory(root: Path, count: int, size: int) -> None:
    if (needed := count * 3 * size**2) > MEMORY_LIMIT:
        fitting = int((MEMORY_LIMIT / (3 * count)) ** 0.5)
        raise AttarError(
            f"{count} images of {root} at image_size={size} need {needed / 1e9:.1f} GB, above the "
            f"{MEMORY_LIMIT / 1e9:g} GB kept in memory; give image_size={fitting} or smaller"
        )


def _decode(name: str, classes: dict[str, list[Path]], size: int, skip: bool) -> tuple[ImageSet, list[Path]]:
    """Every file decoded, and those that could not be."""
    files = [file for members in classes.values() for file in members]
    images = torch.empty(len(files), 3, size, size, dtype=torch.uint8)

    def decode(place: int) -> bool:
        pixels = _try_read(files[place], size, skip)
        if pixels is not None:
            images[place] = torch.from_numpy(pixels).permute(2, 0, 1)
        return pixels is not None

    # Threads, because Pillow decodes outside the interpreter's lock.
    with ThreadPoolExecutor() as pool:
        good = torch.tensor(list(pool.map(decode, range(len(files)))))
    sizes = torch.tensor([len(members) for members in classes.values()])
    labels = torch.arange(len(classes)).repeat_interleave(sizes)
    for number, class_name in enumerate(classes):
        if not good[labels == number].any():
            raise AttarError(f"no image of class {class_name!r} in {name} can be read; mend or remove the class")
    decoded = ImageSet(images, labels, tuple(classes), name, MEAN, STD)
    skipped = [files[place] for place in (~good).nonzero().flatten().tolist()]
    return decoded.subset(good.nonzero().flatten()) if skipped else decoded, skipped


def _try_read(file: Path, size: int, skip: bool) -> np.ndarray | None:
    """The image's pixels; None where it cannot be read and that is to be passed over."""
    from PIL import Image

    try:
        return read_image(file, size)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if skip:
            return None
        reason = str(error).partition("\n")[0]
        raise AttarError(
            f"cannot read image {file} ({reason}); mend or remove it, or give skip_unreadable=true"
        ) from None


def _require_pillow() -> None:
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise AttarError("reading image files needs Pillow; install attar[vision]") from None
