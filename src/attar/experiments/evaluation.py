"""How many images a network is evaluated on at a time."""

from __future__ import annotations

import math

# Activations grow with the pixels of a batch: a teacher that resizes images to 224 takes gigabytes for 250 of them.
# Images of up to 45 by 45 pixels have batches of 250.
MOST_IMAGES, MOST_PIXELS = 250, 2**19


def eval_batch_size(image_shape: tuple[int, int, int]) -> int:
    """The images (C, H, W) of one evaluation batch: 250, fewer where they would have more than half a million pixels.

    >>> eval_batch_size((3, 32, 32)), eval_batch_size((3, 128, 128)), eval_batch_size((3, 2000, 2000))
    (250, 32, 1)
    """
    return max(1, min(MOST_IMAGES, MOST_PIXELS // math.prod(image_shape[1:])))
