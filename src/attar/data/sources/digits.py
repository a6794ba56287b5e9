"""The embedded handwritten digits: real data that need no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from attar.data.images import ImageSet, Splits
from attar.data.loading.split import stratified_split
from attar.data.registry import register_dataset

# E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, doi:10.24432/C50P49, CC BY 4.0: the part
# that scikit-learn brings too, whose import takes nearly as long as torch's.
FILE = Path(__file__).with_name("digits.npz")
# Fixed, so that no run ever trains on an image that another run is tested on.
TEST_SEED = 0


@register_dataset(
    "digits",
    title="Optical recognition of handwritten digits",
    source="Alpaydin and Kaynak, UCI, doi:10.24432/C50P49, CC BY 4.0",
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
    with np.load(FILE) as published:
        # Published as 0..16.
        pixels = torch.from_numpy(published["images"]).double().mul(255 / 16).round().to(torch.uint8)[:, None]
        labels = torch.from_numpy(published["labels"]).long()
    everything = ImageSet(pixels, labels, tuple("0123456789"), "digits", mean=(0.305,), std=(0.376,))
    train, test = stratified_split(labels, test_fraction, TEST_SEED)
    return Splits(everything.subset(train), everything.subset(test))
