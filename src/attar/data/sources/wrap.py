"""Any map-style data set of (image, label) pairs as an image set."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attar.data.images import ImageSet
from attar.decoding import to_rgb, upright
from attar.errors import AttarError

# How many items, about, are read a second time: of an image that is mirrored by chance every other reading differs.
READ_TWICE = 8
# Of labels above this a gap is looked for below it.
MOST_CLASSES = 10**6


def wrap(dataset: Any, name: str = "custom", classes: Sequence[str] | None = None) -> ImageSet:
    """Read every item of a data set into memory.

    Args:
        dataset: has a length and gives (image, label) by position. An image is a tensor (C, H, W) or (H, W), an array
            (H, W, C) or (H, W), or a Pillow image, with 1 or 3 channels, in bytes or in 0..1, neither augmented nor
            normalised. Pillow images of further modes become RGB and are turned upright, as image files are. Every
            item is read once; some are read twice, and a warning names one that differs.
        name: what the set is called.
        classes: the name of every class; None: the data set's own `classes`, else the numbers 0, 1, ... of the labels.

    Returns:
        The set; mean and standard deviation are measured.

    Raises:
        AttarError: the data set is no map of pairs, is empty, an image or a label is not as expected, or there are
            gaps between the labels and no names of classes.

    >>> pairs = [(torch.zeros(3, 8, 8), 0), (torch.ones(3, 8, 8), 1)]
    >>> wrap(pairs).mean
    (0.5, 0.5, 0.5)
    """
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise AttarError(f"expected a data set with a length that gives (image, label), got {type(dataset).__name__}")
    if not len(dataset):
        raise AttarError(f"data set {name!r} is empty; expected (image, label) pairs")
    first, _ = _pair(dataset[0], 0)
    images = torch.empty(len(dataset), *first.shape, dtype=torch.uint8)
    labels = torch.empty(len(dataset), dtype=torch.int64)
    for place in range(len(dataset)):
        image, labels[place] = _pair(dataset[place], place)
        if image.shape != first.shape:
            raise AttarError(
                f"image {place} is {tuple(image.shape)}, image 0 is {tuple(first.shape)}; bring them to one size first"
            )
        images[place] = image
    _warn_of_randomness(dataset, images, name)
    names = classes or getattr(dataset, "classes", None) or _numbered(labels, name)
    return ImageSet(images, labels, tuple(map(str, names)), name, *statistics(images))


def statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of (N, C, H, W) bytes, in 0..1 units; a constant channel deviates by 1.

    >>> statistics(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1))
    ((0.5,), (0.5,))
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    # From counts, because the set as floats may not fit into memory.
    shares = torch.stack([channel.flatten().bincount(minlength=256) for channel in images.unbind(1)]).double()
    shares /= shares.sum(1, keepdim=True)
    mean = shares @ levels
    std = (shares @ levels.square() - mean.square()).clamp_min(0).sqrt()
    return tuple(mean.tolist()), tuple(std.where(std > 1e-6, 1.0).tolist())


def _warn_of_randomness(dataset: Any, images: Tensor, name: str) -> None:
    """Items that differ when they are read again were augmented at random, once and for all epochs."""
    for place in range(0, len(images), max(1, len(images) // READ_TWICE)):
        again, _ = _pair(dataset[place], place)
        if not torch.equal(again, images[place]):
            warnings.warn(
                f"image {place} of {name!r} differs when it is read again: its random augmentation is frozen, one copy "
                "for all epochs; take it out of the data set and give augment=",
                stacklevel=3,
            )
            return


def _numbered(labels: Tensor, name: str) -> range:
    """The classes 0, 1, ... of labels without names."""
    least, most = int(labels.min()), int(labels.max())
    if least < 0:
        raise AttarError(f"labels of {name!r} must be 0.., got {least}")
    missing = sorted(set(range(min(most, MOST_CLASSES))) - set(labels.tolist()))
    if missing:
        raise AttarError(
            f"labels of {name!r} are {least}..{most}, but no item has the label {missing[0]}; number the classes 0, 1, "
            "... without a gap, or give the names of all as classes="
        )
    return range(most + 1)


def _pair(item: Any, place: int) -> tuple[Tensor, int]:
    try:
        image, label = item
        number = label.item() if hasattr(label, "item") else label
        if isinstance(number, float) and not number.is_integer():
            raise AttarError(f"item {place} has the label {number:g}; expected the whole number of a class")
        number = int(number)
    except AttarError:
        raise
    except (TypeError, ValueError, RuntimeError):
        raise AttarError(f"item {place} is no (image, class number) pair: {type(item).__name__}") from None
    return _bytes(_channels_first(image, place), place), number


def _channels_first(image: Any, place: int) -> Tensor:
    """Any kind of image as a (C, H, W) tensor."""
    if not isinstance(image, Tensor):
        # A Pillow image is read as a file of it is, except that a grey one keeps its one channel.
        if hasattr(image, "getexif"):
            image = upright(image)
            image = image if image.mode == "L" else to_rgb(image)
        array = np.array(image)
        if array.dtype == object or array.ndim not in (2, 3):
            raise AttarError(f"image {place} is {type(image).__name__}; expected a tensor, an array or a Pillow image")
        image = torch.from_numpy(array)
        image = image.permute(2, 0, 1) if image.ndim == 3 else image
    image = image[None] if image.ndim == 2 else image
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise AttarError(
            f"image {place} has shape {tuple(image.shape)} (channels first); expected 1 or 3 channels: tensors are "
            "(C, H, W), arrays (H, W, C)"
        )
    return image


def _bytes(image: Tensor, place: int) -> Tensor:
    """Bytes stay; floats in 0..1 become bytes."""
    if image.dtype == torch.uint8:
        return image
    if not image.is_floating_point():
        raise AttarError(f"image {place} is {image.dtype}; expected uint8, or floats in 0..1")
    if not 0 <= float(image.min()) <= float(image.max()) <= 1:
        span = f"{float(image.min()):.3g}..{float(image.max()):.3g}"
        raise AttarError(f"image {place} has values {span}; expected floats in 0..1: leave the normalisation to Attar")
    return image.mul(255).round().to(torch.uint8)
