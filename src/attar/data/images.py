"""Images in memory, and the sets of a task."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from attar.batch import Address
from attar.data.transforms.augment import Augment
from attar.errors import AttarError
from attar.sizes import Size, checked_size, covering, height_width

# Stands where an image has no class number.
NO_LABEL = -1


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size, with their labels or all without, held as bytes.

    Attributes:
        images: (N, C, H, W), uint8.
        labels: (N,) class numbers, int64; all -1 for images without labels. Of a multi-label set (N, K), bool: which of
            the classes each image has.
        classes: the name of every class.
        name: what the set is called ("cifar100").
        mean: per channel, in 0..1 units; a network sees (image / 255 - mean) / std.
        std: per channel, in 0..1 units.
        crop: the central part that networks see, its side or its height and width; a resized crop may use the margin
            around it. None: they see the whole image.
        class_weights: how much a mistake on each class counts in the loss from labels; None: all alike.
        multilabel: whether an image may have any number of the classes, none included.
        files: the file of every image, where they come from files.

    Raises:
        AttarError: a shape, a type or a label does not fit the others.

    >>> images = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    >>> len(ImageSet(images, torch.tensor([0, 1, 0, 1]), ("cat", "dog"), "pets", (0.5,), (0.5,)))
    4
    """

    images: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    classes: tuple[str, ...]
    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: Size | None = None
    class_weights: tuple[float, ...] | None = None
    multilabel: bool = False
    files: tuple[Path, ...] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            found = f"{self.images.dtype} {tuple(self.images.shape)}"
            raise AttarError(f"images of {self.name!r} must be uint8 (N, C, H, W), got {found}; give raw pixels 0..255")
        self._check_labels()
        channels = self.images.shape[1]
        if not len(self.mean) == len(self.std) == channels or min(self.std) <= 0:
            raise AttarError(
                f"{self.name!r} has {channels} channels: expected as many means and positive deviations, "
                f"got mean={tuple(self.mean)}, std={tuple(self.std)}"
            )
        sides = height_width(1 if self.crop is None else self.crop)
        if not all(1 <= side <= own for side, own in zip(sides, self.stored_size, strict=True)):
            height, width = self.stored_size
            raise AttarError(f"a crop of {self.crop} pixels does not fit the {height}x{width} images of {self.name!r}")

    def _check_labels(self) -> None:
        kind, shape = (torch.bool, (len(self), len(self.classes))) if self.multilabel else (torch.int64, (len(self),))
        if self.labels.dtype != kind or self.labels.shape != shape:
            found = f"{self.labels.dtype} {tuple(self.labels.shape)}"
            wanted = f"bool {shape}, one per image and class" if self.multilabel else f"int64 {shape}, one per image"
            raise AttarError(f"labels of {self.name!r} must be {wanted}, got {found}")
        if self.multilabel or not len(self):
            return
        least, most = int(self.labels.min()), int(self.labels.max())
        missing = least == most == NO_LABEL
        if not missing and not 0 <= least <= most < len(self.classes):
            found = f"{least}..{most}"
            raise AttarError(f"labels of {self.name!r} must be 0..{len(self.classes) - 1}, one per class, got {found}")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def without_labels(self) -> bool:
        """Whether no image has a label."""
        return not self.multilabel and len(self) > 0 and int(self.labels[0]) == NO_LABEL

    @property
    def class_counts(self) -> Tensor:
        """(K,) how many images each class has."""
        if self.multilabel or self.without_labels:
            return self.labels.sum(0) if self.multilabel else torch.zeros(len(self.classes), dtype=torch.int64)
        return self.labels.bincount(minlength=len(self.classes))

    @property
    def groups(self) -> Tensor:
        """(N,) numbers that are equal where images have the same labels: those of the classes, or of sets of labels."""
        return self.labels.unique(dim=0, return_inverse=True)[1] if self.multilabel else self.labels

    def numbered_as(self, classes: Sequence[str]) -> Self:
        """The same images with the numbers that their classes have among others, which may be more.

        >>> blank = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
        >>> images = ImageSet(blank, torch.tensor([0, 1]), ("a", "b"), "", (0.5,), (1.0,))
        >>> images.numbered_as(["b", "c", "a"]).labels.tolist()
        [2, 0]
        """
        numbers = torch.tensor([list(classes).index(name) for name in self.classes], dtype=torch.int64)
        if self.multilabel:
            labels = torch.zeros(len(self), len(classes), dtype=torch.bool).index_copy_(1, numbers, self.labels)
        else:
            labels = self.labels if self.without_labels else numbers[self.labels]
        return replace(self, labels=labels, classes=tuple(classes))

    def of_class(self, number: int) -> Tensor:
        """(N,) which images have a class."""
        return self.labels[:, number] if self.multilabel else self.labels == number

    def labels_text(self, number: int) -> str:
        """An image's labels, for messages."""
        if self.without_labels:
            return "without a label"
        if not self.multilabel:
            return f"of class {self.classes[int(self.labels[number])]!r}"
        names = [self.classes[label] for label in self.labels[number].nonzero().flatten().tolist()]
        return f"with the labels {', '.join(map(repr, names)) or 'none'}"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image as networks see it."""
        height, width = self.stored_size if self.crop is None else height_width(self.crop)
        return self.images.shape[1], height, width

    @property
    def example(self) -> tuple[int, int, int]:
        """The shape of the blank images on which a network's cost is measured."""
        return self.image_shape

    @property
    def card(self) -> dict[str, Any]:
        """What the JSON beside deployed weights holds of the data."""
        return {
            "classes": list(self.classes),
            "image_shape": list(self.image_shape),
            "mean": list(self.mean),
            "std": list(self.std),
            **({"multilabel": True} if self.multilabel else {}),
        }

    @property
    def stored_size(self) -> tuple[int, int]:
        """Height and width of the images that are held, the margin around a crop included."""
        return self.images.shape[2], self.images.shape[3]

    @cached_property
    def channels_last(self) -> Tensor:
        """The images with each pixel's channels side by side in memory; a copy only where they lie otherwise."""
        return self.images.contiguous(memory_format=torch.channels_last)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that follow from everything a network can see of the set."""
        seen: tuple[object, ...] = (tuple(self.images.shape), self.classes, tuple(self.mean), tuple(self.std))
        seen += () if self.crop is None else (self.crop,)
        digest = hashlib.blake2b(repr(seen).encode(), digest_size=8)
        for tensor in (self.images, self.labels):
            digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def subset(self, index: Tensor) -> ImageSet:
        """The images at these positions, in this order."""
        files = None if self.files is None else tuple(self.files[place] for place in index.tolist())
        return replace(self, images=_taken(self.images, index), labels=self.labels[index], files=files)

    def path(self, number: int) -> Path | None:
        """The file of one image; None where it comes from none."""
        return None if self.files is None else self.files[number]

    def resized(self, size: Size) -> ImageSet:
        """Images scaled until they cover a size; what stands over is cut off around the centre."""
        size = checked_size("image_size", size)
        wanted = height_width(size)
        if self.image_shape[1:] == wanted:
            return self
        scale = covering(wanted, self.image_shape[1:])
        height, width = (max(round(side * scale), least) for side, least in zip(self.stored_size, wanted, strict=True))
        # A margin around the crop is scaled and kept, around a square as a square.
        around = (min(height, width),) * 2 if isinstance(size, int) else (height, width)
        down, across = wanted if self.crop is None else around
        top, left = (height - down) // 2, (width - across) // 2
        # In parts, so that the working memory stays small.
        parts = [
            F.interpolate(part, (height, width), mode="bilinear", antialias=True)[
                ..., top : top + down, left : left + across
            ]
            for part in self.images.split(1024)
        ]
        return replace(self, images=torch.cat(parts), crop=None if self.crop is None else size)


def _taken(images: Tensor, index: Tensor) -> Tensor:
    """Some of the images, in the memory format they had."""
    if images.is_contiguous() or not images.is_contiguous(memory_format=torch.channels_last):
        return images[index]
    return images.permute(0, 2, 3, 1)[index].permute(0, 3, 1, 2)


@dataclass(frozen=True, eq=False)
class Splits:
    """The sets of one task: to learn from, to choose by, and to report.

    Attributes:
        train: what the networks learn from.
        test: looked at once, at the end.
        val: kept apart for choices during training; None: no choice is made.
        augment: how training images are varied by default.
        notes: what the user should know about the loading ("skipped 2 unreadable images").
        unlabelled: images without labels that training shows beside the labelled ones; None: there are none.

    Raises:
        AttarError: a set is empty, the sets differ in image size or in classes, labels are missing, or the unlabelled
            images have some.
    """

    train: ImageSet
    test: ImageSet
    val: ImageSet | None = None
    augment: Augment = field(default_factory=Augment)
    notes: tuple[str, ...] = ()
    unlabelled: ImageSet | None = None

    def __post_init__(self) -> None:
        sets = {"train": self.train, "val": self.val, "test": self.test, "unlabelled": self.unlabelled}
        for role, images in sets.items():
            if images is None:
                continue
            if not len(images):
                raise AttarError(f"the {role} set has no images; give it some, or another fraction")
            self._check_labels(role, images)
        for role, other in sets.items():
            if other is not None and other.image_shape != self.train.image_shape:
                raise AttarError(
                    f"{role} images are {other.image_shape}, training images {self.train.image_shape}; "
                    "bring them to one size with data.image_size="
                )
            if other is not None and (other.classes, other.multilabel) != (self.train.classes, self.train.multilabel):
                raise AttarError(f"{role} and training set have different classes; name them alike and in one order")

    def _check_labels(self, role: str, images: ImageSet) -> None:
        """Which sets have labels."""
        if images.without_labels != (role == "unlabelled"):
            expected = f"all {NO_LABEL}" if role == "unlabelled" else "class numbers"
            raise AttarError(f"labels of the {role} set must be {expected}, got {images.labels[0].tolist()}")

    @property
    def classes(self) -> tuple[str, ...]:
        """The name of every class."""
        return self.train.classes

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.train.image_shape

    @property
    def network(self) -> dict[str, Any]:
        """What `create_model` needs of the data: classes, the images' size and how they are normalised."""
        channels, *size = self.image_shape
        sizes = {"num_classes": self.num_classes, "in_channels": channels, "image_size": size}
        return {**sizes, "mean": self.test.mean, "std": self.test.std}

    def map(self, change: Callable[[ImageSet], ImageSet]) -> Splits:
        """The same change made to every set."""
        val, unlabelled = (None if images is None else change(images) for images in (self.val, self.unlabelled))
        return replace(self, train=change(self.train), val=val, test=change(self.test), unlabelled=unlabelled)


@dataclass(frozen=True, eq=False)
class FeatureSplits(Splits):
    """Images without labels to train on; those that are scored have labels or none.

    Networks of them have no classifier: their outputs are features.
    """

    def _check_labels(self, role: str, images: ImageSet) -> None:
        if role == "train" and not images.without_labels:
            raise AttarError("the training images of task=features have no labels; leave them out")

    @property
    def num_classes(self) -> int:
        """None: networks put out features."""
        return 0

    def divided(self, val_fraction: float, seed: int, train_size: int | None = None) -> FeatureSplits:
        """What one seed keeps apart and trains on; arguments as of `attar.data.TensorSplits.divided`.

        Raises:
            AttarError: there are fewer than `train_size`.
        """
        train, val = self.train, self.val
        if val is None and val_fraction:
            val, train = drawn(train, max(1, round(val_fraction * len(train))), seed, "split")
        if train_size is not None:
            if not 1 <= train_size <= len(train):
                raise AttarError(f"data.train_size must be 1 to {len(train)}, got {train_size}")
            train = drawn(train, train_size, seed, "limit")[0]
        return replace(self, train=train, val=val)


def drawn(images: ImageSet, count: int, seed: int, purpose: str) -> tuple[ImageSet, ImageSet]:
    """So many images drawn by a seed, and the others, each in the set's order."""
    order = torch.randperm(len(images), generator=Address(seed).generator(purpose))
    return images.subset(order[:count].sort().values), images.subset(order[count:].sort().values)
