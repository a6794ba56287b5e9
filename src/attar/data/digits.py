"""scikit-learn's handwritten digits: real data that need no download."""

from __future__ import annotations

from pathlib import Path

import torch

from attar.data.images import ImageSet, Splits
from attar.data.registry import register_dataset
from attar.data.split import stratified_split

# Fixed, so that no run ever trains on an image that another run is tested on.
TEST_SEED = 0


@register_dataset(
    "digits",
    title="Optical recognition of handwritten digits",
    source="scikit-learn's load_digits, from UCI",
    flip=False,
)
def digits(root: Path | None, download: bool, image_size: int | None, *, test_fraction: float = 0.5) -> Splits:
    """1797 gray images of 8x8 pixels in 10 classes; nothing is read from `root`.

    Args:
        root, download, image_size: not needed here.
        test_fraction: the part tested on, the same images in every run.

    >>> splits = digits(None, download=False, image_size=None)
    >>> len(splits.train), len(splits.test)
    (899, 898)
    """
    from sklearn.datasets import load_digits

    published = load_digits()
    # Published as 0..16.
    pixels = torch.from_numpy(published.images).mul(255 / 16).round().to(torch.uint8)[:, None]
    labels = torch.from_numpy(published.target).long()
    everything = ImageSet(pixels, labels, tuple("0123456789"), "digits", mean=(0.305,), std=(0.376,))
    train, test = stratified_split(labels, test_fraction, TEST_SEED)
    return Splits(everything.subset(train), everything.subset(test))
