"""Changes of colour for a batch of images in bytes; each is torchvision's (transforms.v2.functional) of that name."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# ITU-R BT.601, as Pillow and torchvision weigh the colours.
RED, GREEN, BLUE = 0.2989, 0.587, 0.114


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """(n, 3, H, W) bytes, each image multiplied by its factor (n,): 0 is black, 1 changes nothing.

    >>> brightness(torch.full((1, 3, 1, 1), 100, dtype=torch.uint8), torch.tensor([1.5])).unique().item()
    150
    """
    return _bytes(images.float() * _per_image(factor))


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """(n, 3, H, W) bytes, each image blended with its grey version: factor 0 is grey, 1 changes nothing."""
    return _blend(images.float(), _grey(images), factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """(n, 3, H, W) bytes, each image blended with its mean grey: factor 0 is that grey, 1 changes nothing."""
    return _blend(images.float(), _grey(images).mean((1, 2, 3), keepdim=True), factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """(n, 3, H, W) bytes, each image blended with its blurred version: factor 0 is blurred, 1 changes nothing.

    The outermost pixels stay as they are.
    """
    if min(images.shape[2:]) <= 2:
        return images
    floats = images.float()
    # The kernel has 5 in the middle and 1 around it, over 13: two sums of three, many times as fast as a convolution.
    rows = floats[:, :, :-2] + floats[:, :, 1:-1] + floats[:, :, 2:]
    around = rows[:, :, :, :-2] + rows[:, :, :, 1:-1] + rows[:, :, :, 2:]
    blurred = around.add_(floats[:, :, 1:-1, 1:-1], alpha=4).div_(13).round_()
    inner = floats[:, :, 1:-1, 1:-1]
    inner.add_((blurred - inner).mul_(1 - _per_image(factor)))
    return _bytes(floats)


def posterise(images: Tensor, bits: int) -> Tensor:
    """Bytes of which only the highest bits are kept.

    >>> posterise(torch.tensor([255], dtype=torch.uint8), 4).item()
    240
    """
    return images & (256 - 2 ** (8 - bits))


def solarise(images: Tensor, threshold: float) -> Tensor:
    """Bytes from a threshold upwards, counted from white, not from black.

    >>> solarise(torch.tensor([100, 200], dtype=torch.uint8), 128.0).tolist()
    [100, 55]
    """
    return torch.where(images >= threshold, 255 - images, images)


def autocontrast(images: Tensor) -> Tensor:
    """(n, C, H, W) bytes, every channel stretched to reach from 0 to 255; one of a single value stays."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    flat = low == high
    low = low.float().masked_fill(flat, 0.0)
    scale = (high.float() - low).mul_(1 / 255).masked_fill(flat, 1.0)
    return _bytes((images.float() - low) / scale)


def equalise(images: Tensor) -> Tensor:
    """(n, C, H, W) bytes, every channel's values spread so that all are about equally frequent."""
    channels = images.flatten(0, 1).flatten(1).long()
    counts = torch.zeros(len(channels), 256, dtype=torch.long, device=images.device)
    counts.scatter_add_(1, channels, torch.ones_like(channels))
    sums = counts.cumsum(1)
    # The brightest value that occurs decides nothing: it becomes white in any case.
    total, brightest = sums[:, -1:], counts.gather(1, channels.amax(1, keepdim=True))
    step = (total - brightest).div(255, rounding_mode="floor")
    before = F.pad(sums, (1, 0))[:, :-1]
    spread = (before + step.div(2, rounding_mode="floor")).div(step.clamp_min(1), rounding_mode="floor")
    table = torch.where(step > 0, spread.clamp(0, 255), torch.arange(256, device=images.device))
    return table.to(images.dtype).gather(1, channels).view(images.shape)


def _grey(images: Tensor) -> Tensor:
    """(n, 1, H, W) whole numbers as floats."""
    red, green, blue = images.float().split(1, dim=1)
    return red.mul(RED).add_(green, alpha=GREEN).add_(blue, alpha=BLUE).floor_()


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    share = _per_image(factor)
    return _bytes(images * share + other * (1 - share))


def _per_image(factor: Tensor) -> Tensor:
    return factor[:, None, None, None]


def _bytes(floats: Tensor) -> Tensor:
    """Clipped, and cut down to whole numbers as torchvision does."""
    return floats.clamp_(0, 255).to(torch.uint8)
