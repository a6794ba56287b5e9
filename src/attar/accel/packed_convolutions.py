"""Convolutions of small maps, several images packed into one row, for processors with matrix units (AMX)."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

# A processor's matrix units work on the positions of a row together, and narrow maps leave most of them idle: at equal
# arithmetic a kernel's gradient takes twice as long for maps 8 wide as for 16. By a kernel's size and stride, the
# widest maps for which rows of several images made up for the copying.
WIDEST = {(3, 1): 8, (3, 2): 14, (1, 1): 7}
FEWEST_CHANNELS = 128
# Positions of a row that images are put into.
ROW = 64


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] | str = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
) -> Tensor:
    """`torch.conv2d`, of several images in a row where maps are small; the arguments are the same."""
    if small(x, weight, pair(stride), padding, pair(dilation), groups):
        return in_rows(x, weight, bias, pair(stride)[0])
    return torch.conv2d(x, weight, bias, stride, padding, dilation, groups)


def small(
    x: Tensor,
    weight: Tensor,
    stride: tuple[int, ...],
    padding: int | tuple[int, ...] | str,
    dilation: tuple[int, ...],
    groups: int,
) -> bool:
    """Whether a convolution is one that several images in a row make faster."""
    # The type first: an export in float32 must not ask how many images there are, which would fix their number.
    if not in_bfloat16(x) or x.ndim != 4 or isinstance(padding, str) or groups != 1 or dilation != (1, 1):
        return False
    outputs, inputs, kernel, across = weight.shape
    same = across == kernel and stride[0] == stride[1] and pair(padding) == pair(kernel // 2)
    narrow = 0 < x.shape[3] <= WIDEST.get((kernel, stride[0]), 0)
    return same and narrow and min(outputs, inputs) >= FEWEST_CHANNELS and len(x) > 1


@cache
def matrix_units() -> bool:
    """Whether this processor multiplies matrices of bfloat16 (AMX), as far as this version of torch can detect."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16")) if hasattr(torch.cpu, "get_capabilities") else False


def in_bfloat16(x: Tensor) -> bool:
    """Whether a convolution of a tensor is computed in bfloat16 here."""
    cast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return x.dtype == torch.bfloat16 or (cast and x.dtype == torch.float32)


def in_rows(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """A convolution with an odd kernel, padded with zeros to keep the size, of images that stand side by side in rows.

    Between them stand columns of zeros, which are each one's padding, and what comes out there is left away.

    Args:
        x: (B, C, H, W).
        weight: (out, C, K, K), K odd.
        bias: (out,).
        stride: 1 where K is 1.

    Returns:
        (B, out, H / stride, W / stride), rounded up, channels last.

    >>> x, weight = torch.rand(6, 4, 3, 3), torch.rand(2, 4, 3, 3)
    >>> torch.allclose(in_rows(x, weight, None, 2), torch.conv2d(x, weight, None, stride=2, padding=1))
    True
    """
    kernel, (height, width) = weight.shape[2], x.shape[2:]
    if kernel == 1:  # where rows end does not matter
        x = x.flatten(2).unsqueeze(2)
    gap = next(gap for gap in range(kernel // 2, kernel // 2 + stride) if (x.shape[3] + gap) % stride == 0)
    images = together(len(x), x.shape[3] + gap)
    kept = -(-x.shape[3] // stride)

    rows = x.permute(0, 2, 3, 1).unflatten(0, (-1, images)).transpose(1, 2)
    if gap:
        rows = F.pad(rows, (0, 0, 0, gap))
    y = torch.conv2d(rows.flatten(2, 3).permute(0, 3, 1, 2), weight, bias, stride, kernel // 2)
    y = (
        y.permute(0, 2, 3, 1)
        .unflatten(2, (images, -1))[:, :, :, :kept]
        .transpose(1, 2)
        .flatten(0, 1)
        .permute(0, 3, 1, 2)
    )
    if kernel == 1:
        y = y.reshape(len(x), -1, height, width)
    return y.contiguous(memory_format=torch.channels_last)


def together(images: int, width: int) -> int:
    """How many images stand in a row: the fewest that fill it and divide the batch.

    >>> together(64, 5), together(64, 9), together(7, 5), together(64, 99)
    (16, 8, 7, 1)
    """
    counts = (count for count in range(1, images) if images % count == 0 and count * width >= ROW)
    return next(counts, images)


def pair(size: int | tuple[int, ...]) -> tuple[int, ...]:
    """A size in both directions, as torch's functions take one number or two.

    >>> pair(2), pair((1,)), pair((1, 2))
    ((2, 2), (1, 1), (1, 2))
    """
    both = (size,) if isinstance(size, int) else tuple(size)
    return both * 2 if len(both) == 1 else both
