"""One item of a data set: any kind of image as bytes, and its label as a class number."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from attar.decoding import to_rgb, upright
from attar.errors import AttarError


def pair(item: Any, place: int) -> tuple[Tensor, int]:
    """An item as (C, H, W) bytes and a class number, a boolean where the label is one.

    Raises:
        AttarError: it is no such pair; `place` is its position, for the message.
    """
    try:
        image, label = item
        number = label.item() if hasattr(label, "item") else label
        if isinstance(number, float) and not number.is_integer():
            raise AttarError(f"item {place} has the label {number:g}; expected the whole number of a class")
        number = number if isinstance(number, bool) else int(number)
    except AttarError:
        raise
    except (TypeError, ValueError, RuntimeError):
        raise AttarError(f"item {place} is no (image, class number) pair: {type(item).__name__}") from None
    return _bytes(_channels_first(image, place), place), number


def _channels_first(image: Any, place: int) -> Tensor:
    """Any kind of image as a (C, H, W) tensor."""
    if not isinstance(image, Tensor):
        # A Pillow image is read as a file of it is, except that a grey one keeps its one channel.
        if hasattr(image, "getexif"):
            image = upright(image)
            image = image if image.mode == "L" else to_rgb(image)
        array = np.array(image)
        if array.dtype == object or array.ndim not in (2, 3):
            raise AttarError(f"image {place} is {type(image).__name__}; expected a tensor, an array or a Pillow image")
        image = torch.from_numpy(array)
        image = image.permute(2, 0, 1) if image.ndim == 3 else image
    image = image[None] if image.ndim == 2 else image
    if image.ndim != 3 or image.shape[0] not in (1, 3) or not image.numel():
        raise AttarError(
            f"image {place} has shape {tuple(image.shape)} (channels first); expected 1 or 3 channels of a pixel or "
            "more: tensors are (C, H, W), arrays (H, W, C)"
        )
    return image


def _bytes(image: Tensor, place: int) -> Tensor:
    """Bytes stay; floats in 0..1 become bytes."""
    if image.dtype == torch.uint8:
        return image
    if not image.is_floating_point():
        raise AttarError(f"image {place} is {image.dtype}; expected uint8, or floats in 0..1")
    if not 0 <= float(image.min()) <= float(image.max()) <= 1:
        span = f"{float(image.min()):.3g}..{float(image.max()):.3g}"
        raise AttarError(f"image {place} has values {span}; expected floats in 0..1: leave the normalisation to Attar")
    return image.mul(255).round().to(torch.uint8)
