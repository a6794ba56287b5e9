"""Training images as the networks see them: one row an image, the first as it is and the others varied."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch

from attar.data import FileSet, ImageSet, Splits
from attar.data.file_set import into_memory
from attar.data.loading.loader import eval_batches, loader_for
from attar.errors import AttarError

# Images of the sheet, variations of each, and pixels between them.
ROWS, COLUMNS, GAP = 8, 8, 2
WHITE = 255
# Smaller images are shown as large as this, or nearly.
LEAST_SIDE = 64


def contact_sheet(splits: Splits, seed: int = 0, broken: Collection[Path] = ()) -> np.ndarray:
    """(C, H, W) uint8: up to 8 training images of different classes, down, and 7 variations of each, across.

    Args:
        splits: the data; `splits.augment` says how they are varied.
        seed: where the variations start.
        broken: files that are left out.

    Raises:
        AttarError: no image is left.
    """
    chosen = _chosen(splits.train, broken)
    plain = next(iter(eval_batches(chosen, len(chosen)))).images
    columns = [_pixels(plain, chosen)]
    loader = loader_for(chosen, len(chosen), seed=seed, augment=splits.augment, epochs=COLUMNS)
    for epoch in range(COLUMNS - 1):
        batch = next(iter(loader.epoch(epoch)))
        columns.append(_pixels(batch.images[batch.index.argsort()], chosen))
    return _grid(torch.stack(columns, 1)).numpy()


def enlarged(sheet: np.ndarray, side: int) -> np.ndarray:
    """A sheet (C, H, W) of images of a few pixels with each pixel repeated, so that they can be seen.

    Args:
        sheet: as `contact_sheet` gives it.
        side: the shorter one of its images.

    >>> enlarged(np.zeros((1, 142, 142), np.uint8), 16).shape, enlarged(np.zeros((3, 90, 90), np.uint8), 128).shape
    ((1, 568, 568), (3, 90, 90))
    """
    times = max(1, LEAST_SIDE // side)
    return sheet.repeat(times, 1).repeat(times, 2)


def _chosen(train: ImageSet, broken: Collection[Path]) -> ImageSet:
    """The images of the sheet, in memory."""
    if not isinstance(train, FileSet):
        return train.subset(_spread(train))
    good = [number for number in range(len(train)) if not broken or train.path(number) not in broken]
    if not good:
        raise AttarError(f"no training image of {train.name!r} can be read")
    readable = train.subset(torch.tensor(good))
    return into_memory(readable.subset(_spread(readable)), skip=False)[0]


def _spread(images: ImageSet) -> torch.Tensor:
    """The first image of each of the first classes, or sets of labels; of few, several each."""
    groups = images.groups
    order = groups.argsort(stable=True)
    ordered = groups[order]
    rank = torch.arange(len(order)) - torch.searchsorted(ordered, ordered)
    return order[rank.argsort(stable=True)][:ROWS]


def _pixels(inputs: torch.Tensor, images: ImageSet) -> torch.Tensor:
    """Normalised inputs as bytes again."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (images.mean, images.std))
    return ((inputs.float() * std + mean).clamp(0, 1) * 255).round().byte()


def _grid(images: torch.Tensor) -> torch.Tensor:
    """(R, N, C, H, W) as one image, white between them."""
    rows, columns, channels, height, width = images.shape
    sheet = torch.full((channels, rows * (height + GAP) - GAP, columns * (width + GAP) - GAP), WHITE, dtype=torch.uint8)
    for row in range(rows):
        for column in range(columns):
            top, left = row * (height + GAP), column * (width + GAP)
            sheet[:, top : top + height, left : left + width] = images[row, column]
    return sheet
