"""Mosaics of the embedded digits: real pixels with any number of labels an image, without a download."""

from __future__ import annotations

from pathlib import Path

import torch

from attar.batch import Address
from attar.data.images import ImageSet, Splits
from attar.data.loading.split import split_off
from attar.data.registry import register_dataset
from attar.data.sources.digits import digits
from attar.errors import AttarError

# Fixed, so that no run ever trains on a mosaic that another run is tested on.
SEED = 0
# Of the digits to train on, the part whose mosaics validate.
VALIDATION = 0.1


@register_dataset(
    "digit_mosaics",
    title="Mosaics of handwritten digits, several labels an image",
    source="made of the embedded digits",
    flip=False,
)
def digit_mosaics(
    root: Path | None,
    download: bool,
    image_size: int | None,
    *,
    cells: int = 2,
    empty: float = 0.25,
    train_images: int = 4000,
    test_images: int = 2000,
) -> Splits:
    """Gray images of cells x cells digits of 8 x 8 pixels, each with the labels of the digits that it shows.

    Every cell is empty or shows a digit drawn at random, and one of them always does. The mosaics of the three sets are
    made of different digits: nine tenths and one tenth of those to train on, and those to test on. They are the same in
    every run.

    Args:
        root, download, image_size: not needed here.
        cells: how many digits a side.
        empty: how probable it is that a cell is empty.
        train_images: how many mosaics are trained on; a tenth as many validate.
        test_images: how many are tested on.

    Raises:
        AttarError: a number is out of range.

    >>> splits = digit_mosaics(None, download=False, image_size=None, train_images=50, test_images=20)
    >>> splits.train.image_shape, splits.test.labels.shape, len(splits.val)
    ((1, 16, 16), torch.Size([20, 10]), 5)
    """
    if cells < 1 or train_images < 10 or test_images < 1 or not 0 <= empty < 1:
        raise AttarError(
            f"digit_mosaics needs cells of 1 or more, empty in [0, 1), train_images of 10 or more and test_images of 1 "
            f"or more, got {cells}, {empty:g}, {train_images} and {test_images}"
        )
    published = digits(root, download, image_size)
    train, val = split_off(published.train, VALIDATION, SEED)
    return Splits(
        mosaics(train, train_images, cells, empty, "train"),
        mosaics(published.test, test_images, cells, empty, "test"),
        mosaics(val, train_images // 10, cells, empty, "val"),
    )


def mosaics(images: ImageSet, count: int, cells: int, empty: float, role: str) -> ImageSet:
    """So many mosaics of images, a set of their own for each role."""
    generator = Address(SEED).generator(f"mosaics/{role}")
    chosen = torch.randint(len(images), (count, cells, cells), generator=generator)
    shown = torch.rand(count, cells, cells, generator=generator) >= empty
    # Never nothing at all: such images are all alike, in training and in the test.
    shown[:, 0, 0] |= ~shown.flatten(1).any(1)
    tiles = images.images[chosen] * shown[..., None, None, None]  # (N, down, across, C, H, W)
    pixels = tiles.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
    labels = torch.zeros(count, len(images.classes), dtype=torch.bool)
    rows = torch.arange(count)[:, None, None].expand_as(chosen)
    labels[rows[shown], images.labels[chosen[shown]]] = True
    # Empty cells are black: a mean and a deviation of 0.
    share, (mean,), (std,) = 1 - empty, images.mean, images.std
    spread = (share * (std**2 + mean**2) - (share * mean) ** 2) ** 0.5
    return ImageSet(pixels, labels, images.classes, "digit_mosaics", (share * mean,), (spread,), multilabel=True)
