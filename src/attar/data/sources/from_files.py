"""From lists of image files to the sets of a task: how they are read, and whether they fit into memory."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from attar.data.file_set import FileSet, encoded_set, into_memory
from attar.data.images import ImageSet, Splits
from attar.data.loading.split import split_off
from attar.data.sources.origins import Origin
from attar.errors import AttarError
from attar.sizes import Size, checked_size, height_width

MEMORY_LIMIT = 2 * 10**9  # bytes of decoded pixels
# Fixed, so that no run ever trains on an image that another run is tested on.
TEST_SEED = 0
# From this ratio of the largest to the smallest class on, a note names them.
UNEVEN = 10


@dataclass(frozen=True)
class Reading:
    """How image files are read.

    Attributes:
        image_size: what networks see: a side in pixels, or height and width; None: 64.
        resize_size: what images are read at, in the same way; None: as networks see them.
        in_memory: whether all are decoded once into memory; None: where that takes at most 2 GB.
        workers: processes that read images otherwise; None: as many as suit the machine.
        skip_unreadable: leave out images that cannot be decoded, with a note, and do not stop.
        test_fraction: the part tested on where the data name none; 1: every image, for `attar.evaluate`.

    Raises:
        AttarError: a number is out of range.
    """

    image_size: Size | None = None
    resize_size: Size | None = None
    in_memory: bool | None = None
    workers: int | None = None
    skip_unreadable: bool = False
    test_fraction: float = 0.2

    def __post_init__(self) -> None:
        pairs = zip(height_width(self.stored), height_width(self.size), strict=True)
        if any(read < seen for read, seen in pairs):
            raise AttarError(
                f"resize_size={self.stored} must be at least image_size={self.size}, which is cut out of it"
            )
        if self.workers is not None and self.workers < 0:
            raise AttarError(f"workers must be 0 (read in the main process) or more, got {self.workers}")

    @property
    def size(self) -> int | tuple[int, int]:
        return 64 if self.image_size is None else checked_size("image_size", self.image_size)

    @property
    def stored(self) -> int | tuple[int, int]:
        return self.size if self.resize_size is None else checked_size("resize_size", self.resize_size)

    def files(
        self,
        origin: Origin,
        labels: Sequence[int] | Sequence[Sequence[bool]],
        classes: tuple[str, ...],
        name: str,
        multilabel: bool = False,
    ) -> FileSet:
        """A set of encoded images that are read this way; of a multi-label set `labels` are rows of true and false."""
        crop = self.size if self.resize_size else None
        given = torch.tensor(labels)
        return encoded_set(origin, given, classes, name, self.stored, crop, self.workers, multilabel)

    def splits(self, sets: Mapping[str, FileSet], notes: Sequence[str] = ()) -> Splits:
        """The sets of a task from "train" and perhaps "val" and "test", in memory or streamed.

        With "train" and "val" alone, "val" is the test set, as ImageNet uses it.

        Args:
            sets: the images of each role.
            notes: what the user should know already.

        Raises:
            AttarError: images cannot be read, or are wanted in memory and do not fit.
        """
        if "test" not in sets and "val" in sets:
            sets = {"train": sets["train"], "test": sets["val"]}
        held: dict[str, ImageSet] = dict(sets)
        notes = [*notes, *uneven_classes(sets["train"]), *alike_classes(sets["train"].classes)]
        if self.in_memory_fits(sets):
            for role, images in sets.items():
                held[role], skipped = into_memory(images, self.skip_unreadable)
                if skipped:
                    notes.append(f"skipped {len(skipped)} unreadable images of {images.name!r}, first {skipped[0]}")
        if "test" not in held and self.test_fraction == 1:
            held["test"] = held["train"]
        elif "test" not in held:
            held["train"], held["test"] = split_off(held["train"], self.test_fraction, TEST_SEED, "data.test_fraction")
        return Splits(held["train"], held["test"], held.get("val"), notes=tuple(notes))

    def in_memory_fits(self, sets: Mapping[str, FileSet]) -> bool:
        """Whether the images are to be in memory."""
        count = sum(map(len, sets.values()))
        height, width = height_width(self.stored)
        needed = count * 3 * height * width
        if self.in_memory and needed > MEMORY_LIMIT:
            least = [int(side * (MEMORY_LIMIT / needed) ** 0.5) for side in (height, width)]
            fitting = least[0] if height == width else least
            raise AttarError(
                f"{count} images of {sets['train'].name} at {height}x{width} need {needed / 1e9:.1f} GB, "
                f"above the {MEMORY_LIMIT / 1e9:g} GB kept in memory; leave data.in_memory out, or give "
                f"data.{'resize_size' if self.resize_size else 'image_size'}={fitting} or smaller"
            )
        return needed <= MEMORY_LIMIT if self.in_memory is None else self.in_memory


def alike_classes(classes: Sequence[str]) -> list[str]:
    """A note where names of classes differ in nothing but case, spaces, hyphens or underscores: a slip, more often.

    >>> alike_classes(["church", "gas pump", "Gas_pump"])
    ["classes 'gas pump' and 'Gas_pump' have nearly the same name; merge them if they are one"]
    """
    groups: dict[str, list[str]] = {}
    for name in classes:
        groups.setdefault(re.sub(r"[\s_-]+", "", name).casefold(), []).append(name)
    return [
        f"classes {' and '.join(map(repr, group))} have nearly the same name; merge them if they are one"
        for group in groups.values()
        if len(group) > 1
    ]


def uneven_classes(images: ImageSet) -> list[str]:
    """A note where one class has ten times as many training images as another."""
    counts = images.class_counts
    most, least = int(counts.argmax()), int(counts.masked_fill(counts == 0, counts.max()).argmin())
    if counts[most] < UNEVEN * counts[least]:
        return []
    return [
        f"classes are uneven: {images.classes[most]!r} has {int(counts[most])} training images, "
        f"{images.classes[least]!r} {int(counts[least])}"
    ]
