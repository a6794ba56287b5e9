"""Random erasing as an augmentation: a rectangle of each image replaced by the image's mean colour."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from attar.data.transforms.own import register_augmentation

# The rectangle's area as a share of the image's, and its height as a multiple of its width.
AREA, RATIO = (0.02, 0.33), (0.3, 1 / 0.3)


@register_augmentation("erasing", title="random erasing of a rectangle in a share VALUE of the images", numbers=5)
def erase(images: Tensor, numbers: Tensor, value: Any) -> Tensor:
    """Random erasing (Zhong et al., AAAI 2020, arXiv:1708.04896): 2 to 33 % of the area, height over width 0.3 to 3.3.

    Deviates from the paper, which fills with noise: here the rectangle has the image's mean colour.

    >>> image = torch.zeros(1, 1, 10, 10, dtype=torch.uint8)
    >>> image[..., :5, :] = 100
    >>> erase(image, torch.tensor([[0.0, 1.0, 0.5, 0.0, 0.0]]), 0.25).unique().tolist()
    [0, 50, 100]
    """
    height, width = images.shape[2:]
    area = (AREA[0] + (AREA[1] - AREA[0]) * numbers[:, 1]) * height * width
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    ratio = (low + (high - low) * numbers[:, 2]).exp()
    tall = (area * ratio).sqrt().round().clamp(1, height)
    wide = (area / ratio).sqrt().round().clamp(1, width)
    rows = _within(height, tall, numbers[:, 3])
    columns = _within(width, wide, numbers[:, 4])
    hole = rows[:, :, None] & columns[:, None, :] & (numbers[:, 0] < float(value))[:, None, None]
    mean = images.float().mean((2, 3), keepdim=True).round().to(images.dtype)
    return torch.where(hole[:, None], mean, images)


def _within(length: int, side: Tensor, place: Tensor) -> Tensor:
    """(B, length): which rows or columns lie in a hole of some side, at a place from 0 to 1."""
    start = ((length - side + 1) * place).floor()
    at = torch.arange(length, device=side.device)
    return (at >= start[:, None]) & (at < (start + side)[:, None])
