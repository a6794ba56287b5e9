"""What a data set holds: images and classes of each split, sizes and formats of the files, broken and double ones."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from attar.data.file_set import FileSet
from attar.data.images import ImageSet, Splits
from attar.data.tensor_set import TensorSplits
from attar.decoding import image_header, read_image, reason

SHOWN = 5  # names of files in a line


def split_lines(splits: Splits | TensorSplits) -> list[str]:
    """A line for each split, from its labels and shapes alone.

    >>> from attar.data import load_data
    >>> print("\\n".join(split_lines(load_data("digits"))))
    digits: 8x8 grey images, 10 classes
    train: 809 images, 78 to 83 a class
    val: 90 images, 9 a class
    test: 898 images, 87 to 91 a class
    """
    if isinstance(splits, TensorSplits):
        held = {"train": splits.train, "val": splits.val, "test": splits.test}
        return [f"{role}: {len(samples):,} samples" for role, samples in held.items() if samples is not None]
    channels, height, width = splits.image_shape
    colour = {1: "grey", 3: "RGB"}.get(channels, f"{channels}-channel")
    kind = "labels" if splits.train.multilabel else "classes"
    classes = f", {len(splits.classes)} {kind}" if splits.classes else ""
    lines = [f"{splits.train.name}: {width}x{height} {colour} images{classes}"]
    for role, images in _roles(splits):
        each = "" if role == "unlabelled" else ", no labels" if images.without_labels else f", {_per_class(images)}"
        lines.append(f"{role}: {_images(len(images))}{each}")
    return lines


@dataclass
class Files:
    """What is in the image files of a data set.

    Attributes:
        sizes: (width, height) of every readable file, upright.
        formats: how many files of each format.
        broken: files that cannot be decoded, and why.
        doubles: groups of files with the same bytes, each with its split.
        count: of all files.
    """

    sizes: list[tuple[int, int]] = field(default_factory=list)
    formats: Counter[str] = field(default_factory=Counter)
    broken: dict[Path, str] = field(default_factory=dict)
    doubles: list[list[tuple[str, Path]]] = field(default_factory=list)
    count: int = 0

    def lines(self) -> list[str]:
        """One line for each fact; none of what does not occur."""
        lines = []
        if self.sizes:
            shorter = sorted(min(size) for size in self.sizes)
            formats = ", ".join(f"{count:,} {name}" for name, count in self.formats.most_common())
            least, most, median = shorter[0], shorter[-1], shorter[len(shorter) // 2]
            sides = f"{least}" if least == most else f"{least} to {most}"
            lines.append(
                f"files: {formats}; shorter side {sides} pixels{'' if least == most else f', median {median}'}"
            )
        if self.broken:
            first = [f"{path.name} ({why})" for path, why in list(self.broken.items())[:SHOWN]]
            lines.append(f"broken: {len(self.broken)} of {self.count:,} files{_some(first, len(self.broken))}")
            lines.append("broken files stop a training: mend or remove them, or give data.skip_unreadable=true")
        across = [group for group in self.doubles if len({role for role, _ in group}) > 1]
        inside = [group for group in self.doubles if group not in across]
        if across:
            names = ["=".join(f"{role}/{path.name}" for role, path in group[:3]) for group in across[:SHOWN]]
            lines.append(f"in two splits: {_images(len(across))}{_some(names, len(across))}; scores will be too good")
        if inside:
            names = ["=".join(path.name for _, path in group[:3]) for group in inside[:SHOWN]]
            lines.append(f"duplicates: {_images(sum(len(group) - 1 for group in inside))}{_some(names, len(inside))}")
        return lines


def inspect_files(splits: Splits) -> Files:
    """Decode every image file of the splits; nothing is kept but the facts.

    Args:
        splits: made of `FileSet`s (data loaded with in_memory=False); other sets have no files.
    """
    found = Files()
    contents: dict[bytes, list[tuple[str, Path]]] = {}
    for role, images in _roles(splits):
        if not isinstance(images, FileSet):
            continue
        with ThreadPoolExecutor() as pool:
            for path, facts in pool.map(lambda number, images=images: _facts(images, number), range(len(images))):
                found.count += 1
                if isinstance(facts, str):
                    found.broken[path] = facts
                    continue
                size, kind, digest = facts
                found.sizes.append(size)
                found.formats[kind] += 1
                contents.setdefault(digest, []).append((role, path))
    found.doubles = [group for group in contents.values() if len(group) > 1]
    return found


def _facts(images: FileSet, number: int) -> tuple[Path, tuple[tuple[int, int], str, bytes] | str]:
    """A file's size, format and digest, or why it cannot be decoded."""
    path = images.path(number)
    try:
        opened = images.origin.open(number)
        raw = opened.getvalue() if isinstance(opened, BytesIO) else opened.read_bytes()
        size, kind = image_header(BytesIO(raw))
        read_image(BytesIO(raw), images.stored_size)
    except MemoryError:
        raise
    except Exception as error:  # damaged files fail in many ways that mean the same
        return path, reason(error)
    return path, (size, kind, hashlib.blake2b(raw, digest_size=16).digest())


def _roles(splits: Splits) -> Iterator[tuple[str, ImageSet]]:
    for role in ("train", "val", "test", "unlabelled"):
        if (images := getattr(splits, role)) is not None:
            yield role, images


def _per_class(images: ImageSet) -> str:
    least, most = int(images.class_counts.min()), int(images.class_counts.max())
    each = f"{least} a class" if least == most else f"{least} to {most} a class"
    if not images.multilabel:
        return each
    return f"{each.replace('class', 'label')}, {float(images.labels.sum(1).float().mean()):.1f} labels an image"


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"


def _some(names: list[str], count: int) -> str:
    return f": {', '.join(names)}{' ...' if count > len(names) else ''}"
