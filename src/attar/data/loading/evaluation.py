"""How many samples a network is evaluated on at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from attar.batch import Batch
from attar.data.images import ImageSet
from attar.data.loading.loader import Samples, eval_batches

# Activations grow with the pixels of a batch: a teacher that resizes images to 224 takes gigabytes for 250 of them.
# Images of up to 45 by 45 pixels have batches of 250.
MOST_IMAGES, MOST_PIXELS = 250, 2**19
# Outputs are held in float64: 2 to the 22nd of them are 34 MB, 16 sequences of 128 tokens out of 2048.
MOST_OUTPUTS = 2**22


def eval_batch_size(image_shape: tuple[int, int, int]) -> int:
    """The images (C, H, W) of one evaluation batch: 250, fewer where they would have more than half a million pixels.

    >>> eval_batch_size((3, 32, 32)), eval_batch_size((3, 128, 128)), eval_batch_size((3, 2000, 2000))
    (250, 32, 1)
    """
    return max(1, min(MOST_IMAGES, MOST_PIXELS // math.prod(image_shape[1:])))


def batches_of(samples: Samples, device: torch.device | str = "cpu") -> Iterator[Batch]:
    """Every sample of a set once, in batches of a size that follows from the samples and their outputs."""
    if isinstance(samples, ImageSet):
        size = eval_batch_size(samples.image_shape)
    else:
        entries = math.prod(samples.labels.shape[1:]) * samples.outputs
        pixels = math.prod(samples.shape[1:])
        size = max(1, min(MOST_IMAGES, MOST_PIXELS // pixels, MOST_OUTPUTS // max(1, entries)))
    return eval_batches(samples, size, device)
