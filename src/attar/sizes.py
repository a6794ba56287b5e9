"""Sizes of images: the side of a square, or height and width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attar.errors import AttarError

# The side of square images, or their height and width.
Size = int | Sequence[int]


def height_width(size: Size) -> tuple[int, int]:
    """Height and width of images of a size.

    >>> height_width(32), height_width([12, 24])
    ((32, 32), (12, 24))
    """
    if isinstance(size, int):
        return size, size
    height, width = size
    return height, width


def shortest(size: Size) -> int | tuple[int, int]:
    """A size as one number where it is a square's.

    >>> shortest((32, 32)), shortest([12, 24])
    (32, (12, 24))
    """
    height, width = height_width(size)
    return height if height == width else (height, width)


def checked_size(name: str, size: Any) -> int | tuple[int, int]:
    """A size that somebody gave.

    Raises:
        AttarError: it is no whole number from 1, nor two of them.

    >>> checked_size("image_size", [12, 24])
    (12, 24)
    >>> checked_size("image_size", 0)
    Traceback (most recent call last):
    attar.errors.AttarError: image_size must be a side of at least 1 pixel, or [height, width], got 0
    """
    sides = list(size) if isinstance(size, list | tuple) else [size] * 2
    if len(sides) != 2 or not all(type(side) is int and side >= 1 for side in sides):
        raise AttarError(f"{name} must be a side of at least 1 pixel, or [height, width], got {size}")
    return shortest(sides)


def covering(size: tuple[int, int], image: tuple[int, int]) -> float:
    """The factor by which an image is scaled so that it just covers a size; both height and width.

    >>> covering((12, 24), (48, 48))
    0.5
    """
    return max(wanted / own for wanted, own in zip(size, image, strict=True))
