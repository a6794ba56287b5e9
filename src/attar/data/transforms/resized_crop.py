"""Random parts of images, scaled to one size: how networks are trained on photographs."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

TRIES = 10


def draw_boxes(
    count: int,
    size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    generator: torch.Generator,
) -> Tensor:
    """Random parts of equally large images (arXiv:1409.4842): area and shape uniform, the shape in its logarithm.

    A part that does not fit is drawn again, at most ten times, then the largest central part of an allowed shape is
    taken, as in torchvision.

    Args:
        count: how many parts.
        size: height and width of the images in pixels.
        scale: the least and largest area, as a share of the image's.
        ratio: the least and largest width over height.
        generator: where the numbers come from.

    Returns:
        (count, 4), int64: top, left, height and width in pixels.

    >>> draw_boxes(1, (32, 32), (1.0, 1.0), (1.0, 1.0), torch.Generator().manual_seed(0)).tolist()
    [[0, 0, 32, 32]]
    """
    height, width = size
    # In float64, so that no processor rounds to another pixel.
    drawn = torch.rand(2, TRIES, count, generator=generator, dtype=torch.float64)
    area = height * width * (scale[0] + (scale[1] - scale[0]) * drawn[0])
    low, high = map(math.log, ratio)
    shape = (low + (high - low) * drawn[1]).exp()
    high_sides, wide_sides = (area / shape).sqrt().round().long(), (area * shape).sqrt().round().long()
    fits = (high_sides >= 1) & (high_sides <= height) & (wide_sides >= 1) & (wide_sides <= width)
    # argmax of bytes gives the first that fits, where there is one.
    first = fits.byte().argmax(0, keepdim=True)
    tall, wide = (sides.gather(0, first)[0] for sides in (high_sides, wide_sides))
    largest = _largest(height, width, ratio)
    none = ~fits.any(0)
    tall, wide = tall.masked_fill(none, largest[0]), wide.masked_fill(none, largest[1])
    place = torch.rand(2, count, generator=generator, dtype=torch.float64).masked_fill(none, 0.5)
    room = torch.stack([height - tall, width - wide])
    corner = torch.where(none, room // 2, (place * (room + 1)).long())
    return torch.stack([*corner, tall, wide], 1)


def _largest(height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int]:
    """Height and width of the largest part of an image whose shape is allowed."""
    if width / height < ratio[0]:
        return max(round(width / ratio[0]), 1), width
    if width / height > ratio[1]:
        return height, max(round(height * ratio[1]), 1)
    return height, width


def resized_crop(images: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """A part of each image, scaled to one size: bilinear, with antialiasing where it shrinks.

    Args:
        images: (B, C, H, W), uint8.
        boxes: (B, 4) on their device: top, left, height and width of each part, in pixels.
        size: the height and width that come out.

    Returns:
        (B, C, *size), uint8, in the images' memory format. The CPU's bytes are those of torchvision's
        `resized_crop`; other devices round some of them to the next.

    >>> images = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4)
    >>> resized_crop(images, torch.tensor([[1, 1, 2, 2]]), (2, 2)).flatten().tolist()
    [5, 6, 9, 10]
    """
    if images.device.type == "cpu":
        return _one_by_one(images, boxes, size)
    return _by_weights(images, boxes, size)


def _one_by_one(images: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """With torch's kernel for bytes: a CPU is twice to ten times as fast with it as with anything batched."""
    last = not images.is_contiguous()
    layout = torch.channels_last if last else torch.contiguous_format
    scaled = torch.empty((*images.shape[:2], *size), dtype=images.dtype, memory_format=layout)
    for place, (top, left, height, width) in enumerate(boxes.tolist()):
        part = images[place : place + 1, :, top : top + height, left : left + width]
        scaled[place : place + 1] = F.interpolate(part, size, mode="bilinear", antialias=True)
    return scaled


def _by_weights(images: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """As two products with the weights of every source row and column, for all images in one call."""
    last = not images.is_contiguous()
    top, left, height, width = boxes.unbind(1)
    rows = _weights(top, height, images.shape[2], size[0])
    columns = _weights(left, width, images.shape[3], size[1])
    scaled = rows[:, None] @ images.float() @ columns[:, None].mT
    scaled = scaled.round().clamp(0, 255).to(images.dtype)
    return scaled.contiguous(memory_format=torch.channels_last) if last else scaled


def _weights(start: Tensor, length: Tensor, source: int, target: int) -> Tensor:
    """(B, target, source): each new pixel's share of every old one along one side, a triangle around its centre."""
    step = (length / target)[:, None]
    centre = start[:, None] + (torch.arange(target, device=start.device) + 0.5) * step
    support = step.clamp_min(1.0)
    place = torch.arange(source, device=start.device)
    weights = (1 - ((place + 0.5 - centre[..., None]) / support[..., None]).abs()).clamp_min(0)
    inside = (place >= start[:, None]) & (place < (start + length)[:, None])
    weights = weights * inside[:, None]
    return weights / weights.sum(2, keepdim=True)
