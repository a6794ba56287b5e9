"""Augmentations of one's own: registered by name, drawn from the address of each image as the built-in ones are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import TypeVar

import torch
from torch import Tensor

from attar.data.transforms.augment import Augment
from attar.data.transforms.registry import AUGMENTATIONS, AugmentationInfo, Change
from attar.errors import AttarError

Changing = TypeVar("Changing", bound=Change)


def register_augmentation(name: str, *, title: str, numbers: int = 1) -> Callable[[Changing], Changing]:
    """Decorator that enters a function as an augmentation; see `AugmentationInfo` for what it gets and returns.

    `data.augment.NAME=VALUE` then uses it, after the built-in changes of the images' bytes and before cutout; a value
    of 0 or false leaves it out. The random numbers of an image follow from the seed, the epoch and the image alone.

    Args:
        name: the key under data.augment.
        title: one line for listings.
        numbers: how many random numbers an image gets in an epoch.

    Raises:
        AttarError: the name is taken.

    >>> @register_augmentation("darken", title="up to VALUE times as dark")
    ... def darken(images, numbers, value):
    ...     return (images / (1 + (value - 1) * numbers[:, :, None, None])).to(torch.uint8)
    >>> augment = Augment().changed({"darken": 3.0})
    >>> changed_by_own(torch.full((1, 1, 1, 1), 200, dtype=torch.uint8), augment, torch.tensor([[0.5]])).item()
    100
    """
    if name in {f.name for f in fields(Augment)}:
        raise AttarError(f"augmentation {name!r} is built in; choose another name")

    def enter(change: Changing) -> Changing:
        AUGMENTATIONS.add(AugmentationInfo(name, title, change, numbers))
        return change

    return enter


def list_augmentations(pattern: str = "*") -> list[str]:
    """The registered augmentations whose name matches a shell pattern, the built-in keys of `Augment` left out."""
    return AUGMENTATIONS.names(pattern)


def changed_by_own(images: Tensor, augment: Augment, numbers: Tensor) -> Tensor:
    """Images (B, C, H, W), uint8, put through every augmentation of one's own that `augment` names, in its order.

    Args:
        images: in either memory format, which is kept.
        augment: the names and values.
        numbers: (B, n), the random numbers of all of them side by side.

    Raises:
        AttarError: a function gives images of another shape or type.
    """
    layout = torch.contiguous_format if images.is_contiguous() else torch.channels_last
    start = 0
    for name, value in augment.own:
        info, before = AUGMENTATIONS[name], images
        images = info.change(images, numbers[:, start : start + info.numbers], value)
        start += info.numbers
        if images.shape != before.shape or images.dtype != before.dtype:
            raise AttarError(
                f"augmentation {name!r} must give {tuple(before.shape)} uint8, got {tuple(images.shape)} {images.dtype}"
            )
    return images.contiguous(memory_format=layout)
