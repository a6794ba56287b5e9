"""Splits and subsets in which every class keeps its share."""

from __future__ import annotations

import torch
from torch import Tensor

from attar.batch import Address
from attar.data.images import ImageSet
from attar.errors import AttarError


def stratified_split(labels: Tensor, fraction: float, seed: int, key: str = "the fraction") -> tuple[Tensor, Tensor]:
    """Positions of the rest and of a part, each sorted, with the same share of every class.

    The part has round(fraction * N) images; every class keeps at least one image in the rest.

    Args:
        labels: (N,) class numbers.
        fraction: the size of the part, in [0, 1).
        seed: which of the possible parts.
        key: what the fraction is called in messages.

    Raises:
        AttarError: the fraction is out of range or would give a part without images, or images have no label.

    >>> rest, part = stratified_split(torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), fraction=0.25, seed=0)
    >>> len(rest), len(part)
    (6, 2)
    """
    if not 0 <= fraction < 1:
        raise AttarError(f"{key} must be in [0, 1), got {fraction}")
    if len(labels) and int(labels.min()) < 0:
        raise AttarError("some images have no label; give those apart, as data.unlabelled or Splits(unlabelled=...)")
    counts = labels.bincount()
    most = (counts - 1).clamp_min(0)
    total = min(round(fraction * len(labels)), int(most.sum()))
    if fraction and not total:
        why = "is none" if int(most.sum()) else "are none, because every class keeps its only one"
        raise AttarError(f"{key}: {fraction:g} of {len(labels)} images {why}; give a larger one, or 0 for no split")
    part = _draw(labels, _quotas(counts, total, torch.zeros_like(counts), most), seed, "split")
    in_part = torch.zeros(len(labels), dtype=torch.bool).index_fill_(0, part, True)
    return (~in_part).nonzero().flatten(), part


def split_off(images: ImageSet, fraction: float, seed: int, key: str = "the fraction") -> tuple[ImageSet, ImageSet]:
    """The rest and a part of round(fraction * N) images, each in the set's order.

    Every class keeps its share, as in `stratified_split`; images with several labels are drawn alike.

    Raises:
        AttarError: as `stratified_split`.
    """
    groups = torch.zeros(len(images), dtype=torch.int64) if images.multilabel else images.labels
    rest, part = stratified_split(groups, fraction, seed, key)
    return images.subset(rest), images.subset(part)


def limit(images: ImageSet, count: int, seed: int) -> ImageSet:
    """A subset of `count` images with the same share of every class and at least one of each.

    Images with several labels or none are drawn alike.

    Raises:
        AttarError: there are fewer images, or more classes, than `count`.

    >>> pixels = torch.zeros(9, 1, 2, 2, dtype=torch.uint8)
    >>> nine = ImageSet(pixels, torch.arange(9) % 3, ("a", "b", "c"), "nine", mean=(0.5,), std=(0.5,))
    >>> limit(nine, 6, seed=0).labels.bincount().tolist()
    [2, 2, 2]
    """
    groups = (
        torch.zeros(len(images), dtype=torch.int64) if images.multilabel or images.without_labels else images.labels
    )
    counts = groups.bincount()
    least = counts.clamp_max(1)
    if not int(least.sum()) <= count <= len(images):
        raise AttarError(
            f"train_size must be {int(least.sum())} (the classes) to {len(images)} (the images of {images.name!r}), "
            f"got {count}"
        )
    return images.subset(_draw(groups, _quotas(counts, count, least, counts), seed, "limit"))


def _quotas(counts: Tensor, total: int, least: Tensor, most: Tensor) -> Tensor:
    """How many of each class make up `total`: as near to the class's share as the bounds allow."""
    exact = counts.double() * total / counts.sum()
    take = exact.long().clamp(least, most)
    while gap := total - int(take.sum()):
        step = 1 if gap > 0 else -1
        room = take < most if gap > 0 else take > least
        take[((exact - take) * step).masked_fill(~room, -torch.inf).argmax()] += step
    return take


def _draw(labels: Tensor, quotas: Tensor, seed: int, purpose: str) -> Tensor:
    """Sorted positions of a random choice of that many images of each class."""
    order = torch.randperm(len(labels), generator=Address(seed).generator(purpose))
    order = order[labels[order].argsort(stable=True)]
    groups = order.split(labels.bincount().tolist())
    return torch.cat([group[:quota] for group, quota in zip(groups, quotas.tolist(), strict=True)]).sort().values
