"""Affine changes of geometry, composed as matrices and carried out in one sampling."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# A matrix maps a pixel (x, y) of the result to its source, from the corner of the image in pixels, pixel centres
# at halves: source = matrix @ (x, y, 1).
IDENTITY = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def rotation(degrees: Tensor, size: tuple[int, int]) -> Tensor:
    """(n, 2, 3) for n turns against the clock around the centre of images of this height and width."""
    angle = degrees.double().deg2rad()
    cos, sin = angle.cos(), angle.sin()
    y, x = size[0] / 2, size[1] / 2
    rows = [cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y]
    return torch.stack([torch.stack(row, -1) for row in rows], -2).float()


def shear(factor: Tensor, axis: int) -> Tensor:
    """(n, 2, 3) for n shears along x (axis 0) or y (1), the first row or column staying where it is."""
    matrix = IDENTITY.repeat(len(factor), 1, 1)
    matrix[:, axis, 1 - axis] = factor
    return matrix


def translation(pixels: Tensor, axis: int) -> Tensor:
    """(n, 2, 3) for n shifts along x (axis 0) or y (1)."""
    matrix = IDENTITY.repeat(len(pixels), 1, 1)
    matrix[:, axis, 2] = -pixels
    return matrix


def compose(later: Tensor, earlier: Tensor) -> Tensor:
    """(n, 2, 3): `later` after `earlier`.

    >>> two, three = (translation(torch.tensor([pixels]), 0) for pixels in (2.0, 3.0))
    >>> compose(two, three)[0, 0].tolist()
    [1.0, 0.0, -5.0]
    """
    # The result's pixel is first sought by the later change. Written out, so that it rounds alike for every n.
    linear = (earlier[:, :, :2, None] * later[:, None, :, :2]).sum(2)
    shift = (earlier[:, :, :2] * later[:, None, :, 2]).sum(2) + earlier[:, :, 2]
    return torch.cat([linear, shift[:, :, None]], 2)


def warp(images: Tensor, matrices: Tensor) -> Tensor:
    """Each image sampled through its own matrix: bilinear, black outside.

    Args:
        images: (n, C, H, W), uint8.
        matrices: (n, 2, 3), on the images' device.

    Returns:
        (n, C, H, W), uint8.

    >>> image = torch.arange(1, 5, dtype=torch.uint8).view(1, 1, 1, 4)
    >>> warp(image, translation(torch.tensor([1.0]), 0)).flatten().tolist()
    [0, 1, 2, 3]
    """
    height, width = images.shape[2:]
    x = torch.arange(width, device=images.device) + 0.5
    y = torch.arange(height, device=images.device)[:, None] + 0.5
    a = matrices[:, :, :, None, None]
    # Written out, because a product of matrices rounds differently for every batch size.
    source = a[:, :, 0] * x + a[:, :, 1] * y + a[:, :, 2]
    grid = torch.stack([2 * source[:, 0] / width - 1, 2 * source[:, 1] / height - 1], -1)
    moved = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return moved.round().clamp_(0, 255).to(images.dtype)
