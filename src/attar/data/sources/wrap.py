"""Any map-style data set of (image, label) pairs as an image set, in memory or read anew in every epoch."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from attar.batch import Address
from attar.data.images import ImageSet
from attar.data.sources.drawn import DrawnSet, drawing
from attar.data.sources.items import pair
from attar.errors import AttarError

# How many items, about, are read a second time: of images that change once in twenty readings some differ all the same.
READ_TWICE = 256
# Of labels above this a gap is looked for below it.
MOST_CLASSES = 10**6


def wrap(dataset: Any, name: str = "custom", classes: Sequence[str] | None = None, workers: int = 0) -> ImageSet:
    """A data set as an image set: read into memory, or, where its images differ at every reading, read in every epoch.

    Args:
        dataset: has a length and gives (image, label) by position. An image is a tensor (C, H, W) or (H, W), an array
            (H, W, C) or (H, W), or a Pillow image, with 1 or 3 channels, in bytes or in 0..1, not normalised. Pillow
            images of further modes become RGB and are turned upright, as image files are. Every item is read once; some
            are read twice, to find out whether they are drawn at random.
        name: what the set is called.
        classes: the name of every class; None: the data set's own `classes`, else the numbers 0, 1, ... of the labels,
            or, where all labels are booleans, "False" and "True".
        workers: how many processes read images that are drawn at random; 0: this one.

    Returns:
        The set, a `DrawnSet` where images are drawn at random; mean and standard deviation are measured.

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
    first, _ = pair(dataset[0], 0)
    drawn = is_drawn(dataset, name)
    kept = None if drawn else torch.empty(len(dataset), *first.shape, dtype=torch.uint8)
    labels, booleans = torch.empty(len(dataset), dtype=torch.int64), True
    counts = torch.zeros(len(first), 256, dtype=torch.int64)
    for place in range(len(dataset)):
        with drawing(Address(), place) if drawn else nullcontext():
            image, label = pair(dataset[place], place)
        labels[place], booleans = label, booleans and isinstance(label, bool)
        if image.shape != first.shape:
            raise AttarError(
                f"image {place} is {tuple(image.shape)}, image 0 is {tuple(first.shape)}; bring them to one size first"
            )
        counts += levels(image[None])
        if kept is not None:
            kept[place] = image
    own = getattr(dataset, "classes", None) if classes is None else classes
    if own is not None and not isinstance(own, Iterable):
        raise AttarError(f"the classes of {name!r} are {own!r}; expected their names, such as ['cat', 'dog']")
    names = tuple(map(str, own if own is not None else ())) or (
        ("False", "True") if booleans else tuple(map(str, _numbered(labels, name)))
    )
    if kept is not None:
        return ImageSet(kept, labels, names, name, *moments(counts))
    none = torch.empty(len(dataset), *first.shape, dtype=torch.uint8, device="meta")
    places = torch.arange(len(dataset))
    return DrawnSet(none, labels, names, name, *moments(counts), dataset=dataset, places=places, workers=workers)


def levels(images: Tensor) -> Tensor:
    """(C, 256): how often each byte stands in the channels of (N, C, H, W) bytes."""
    # As counts, because the set as floats may not fit into memory.
    return torch.stack([channel.flatten().bincount(minlength=256) for channel in images.unbind(1)])


def statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of (N, C, H, W) bytes, in 0..1 units; a constant channel deviates by 1.

    >>> statistics(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1))
    ((0.5,), (0.5,))
    """
    return moments(levels(images))


def moments(counts: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The same from counts (C, 256) of the bytes."""
    shares = counts.double()
    shares /= shares.sum(1, keepdim=True)
    bytes_ = torch.arange(256, dtype=torch.float64) / 255
    mean = shares @ bytes_
    std = (shares @ bytes_.square() - mean.square()).clamp_min(0).sqrt()
    return tuple(mean.tolist()), tuple(std.where(std > 1e-6, 1.0).tolist())


def is_drawn(dataset: Any, name: str) -> bool:
    """Whether images differ from other random numbers; a warning where they do from the same ones too.

    The numbers are those of two fixed addresses, so that a resumed run finds the same.
    """
    drawn = False

    def read(seed: int, place: int) -> Tensor:
        with drawing(Address(seed), place):
            return pair(dataset[place], place)[0]

    for place in range(0, len(dataset), max(1, len(dataset) // READ_TWICE)):
        one, other = read(0, place), read(1, place)
        if one.shape != other.shape:
            raise AttarError(f"image {place} of {name!r} has another size at every reading; bring it to one size")
        if torch.equal(one, other):
            continue
        drawn = True
        if not torch.equal(other, read(1, place)):
            warnings.warn(
                f"images of {name!r} are drawn from a generator of the data set's own: every epoch differs, but a "
                "resumed run cannot repeat it; draw from torch's, NumPy's or Python's global one",
                stacklevel=3,
            )
            return True
    return drawn


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
