"""The table of augmentations of one's own: what `data.augment.NAME=VALUE` may name beside the built-in keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from attar.registry import Registry

Change = Callable[[Tensor, Tensor, Any], Tensor]


@dataclass(frozen=True)
class AugmentationInfo:
    """An augmentation that a recipe can name.

    Attributes:
        name: the key under data.augment.
        title: one line for listings.
        change: change(images, numbers, value) gives a batch of images changed: (B, C, H, W), uint8. `numbers` is
            (B, n) in [0, 1), float32, the random numbers of each image; `value` is what the recipe gives.
        numbers: n, how many random numbers an image gets in an epoch.
    """

    name: str
    title: str
    change: Change
    numbers: int = 1


def _augmentation(name: str, change: Change) -> AugmentationInfo:
    """A function that was given as an object; its attribute `numbers` (1) counts its random numbers."""
    return AugmentationInfo(name, name, change, getattr(change, "numbers", 1))


AUGMENTATIONS: Registry[AugmentationInfo] = Registry("augmentation", wrap=_augmentation)
