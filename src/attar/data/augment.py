"""Random crops, flips and holes for a whole batch at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from attar.batch import Address
from attar.errors import AttarError, unknown


@dataclass(frozen=True)
class Augment:
    """How training images are varied; by default not at all.

    >>> Augment(crop_padding=4).changed({"flip": True})
    Augment(crop_padding=4, padding_mode='zero', flip=True, cutout=0)
    """

    crop_padding: int = 0
    """Pixels added on every side before a window of the old size is cut out at random; the literature takes 4 of 32."""
    padding_mode: str = "zero"
    """What the added pixels show: zero (black), or reflect (the image's mirrored edge)."""
    flip: bool = False
    """Mirror every other image left to right, at random; not for digits or text."""
    cutout: int = 0
    """Side in pixels of a square hole at a random place, filled with the mean colour (arXiv:1708.04552); 0: none."""

    def __post_init__(self) -> None:
        if self.padding_mode not in ("zero", "reflect"):
            raise unknown("padding_mode", str(self.padding_mode), ("zero", "reflect"))
        for key in ("crop_padding", "cutout"):
            number = getattr(self, key)
            if not isinstance(number, int) or number < 0:
                raise AttarError(f"augment.{key} must be a whole number of pixels from 0, got {number!r}")
        if not isinstance(self.flip, bool):
            raise AttarError(f"augment.flip must be true or false, got {self.flip!r}")

    def changed(self, changes: Mapping[str, object]) -> Augment:
        """The same with some settings replaced; an unknown one is answered with the nearest."""
        known = [f.name for f in fields(self)]
        for key in changes:
            if key not in known:
                raise unknown("key of augment:", key, known)
        return replace(self, **changes)  # type: ignore[arg-type]

    def check(self, height: int, width: int) -> None:
        """Refuse a padding that these images are too small to reflect."""
        if self.padding_mode == "reflect" and self.crop_padding >= min(height, width):
            raise AttarError(
                f"augment.crop_padding={self.crop_padding} cannot reflect {height}x{width} images; lower it"
            )


@dataclass(frozen=True)
class Moves:
    """The random choices for N images, one entry each.

    Attributes:
        top, left: (N,) the window's corner in the padded image, in pixels.
        flip: (N,) whether the image is mirrored.
        row, column: (N,) the centre of the hole, in pixels.
    """

    top: Tensor
    left: Tensor
    flip: Tensor
    row: Tensor
    column: Tensor

    def __getitem__(self, index: Tensor) -> Moves:
        return Moves(*(getattr(self, f.name)[index] for f in fields(self)))

    def to(self, device: torch.device | str) -> Moves:
        """The same choices on another device."""
        return Moves(*(getattr(self, f.name).to(device) for f in fields(self)))


def draw(augment: Augment, count: int, height: int, width: int, address: Address) -> Moves:
    """The random choices for every image of a set in one epoch: entry i belongs to image i, whatever the batches are.

    >>> draw(Augment(crop_padding=4, flip=True), count=5, height=32, width=32, address=Address(epoch=3)).top.shape
    torch.Size([5])
    """
    crop, flip, hole = (address.generator(purpose) for purpose in ("crop", "flip", "cutout"))
    top, left = torch.randint(2 * augment.crop_padding + 1, (2, count), generator=crop)
    return Moves(
        top=top,
        left=left,
        flip=torch.rand(count, generator=flip) < 0.5,
        row=torch.randint(height, (count,), generator=hole),
        column=torch.randint(width, (count,), generator=hole),
    )


def crop_and_flip(images: Tensor, augment: Augment, moves: Moves) -> Tensor:
    """Each image shifted and mirrored by its own choices.

    Args:
        images: (B, C, H, W) of any type.
        augment: the padding, and whether images are flipped.
        moves: the choices for these B images.

    Returns:
        (B, C, H, W) of the same type.
    """
    if augment.crop_padding:
        height, width = images.shape[2:]
        # Every possible window as a view, so that one gather copies the chosen ones.
        windows = pad(images, augment.crop_padding, augment.padding_mode).unfold(2, height, 1).unfold(3, width, 1)
        images = windows[torch.arange(len(images), device=images.device), :, moves.top, moves.left]
    if augment.flip:
        images = torch.where(moves.flip[:, None, None, None], images.flip(-1), images)
    return images


def pad(images: Tensor, padding: int, mode: str) -> Tensor:
    """Images with pixels added on every side, black ("zero") or mirrored without the edge itself ("reflect")."""
    if mode == "zero":
        return F.pad(images, (padding,) * 4)
    # By index, because F.pad does not reflect bytes.
    for dim in (2, 3):
        size = images.shape[dim]
        around = torch.arange(-padding, size + padding, device=images.device).abs()
        images = images.index_select(dim, size - 1 - (size - 1 - around).abs())
    return images


def cut_out_(images: Tensor, size: int, moves: Moves) -> Tensor:
    """A square of zeros, the mean colour, set into each image around its own place, cut at the border.

    In place: that is faster, and keeps the memory layout.

    Args:
        images: (B, C, H, W), normalised.
        size: side of the square in pixels.
        moves: the choices for these B images.
    """
    rows = _within(images.shape[2], moves.row, size)
    columns = _within(images.shape[3], moves.column, size)
    return images.masked_fill_((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


def normalise(images: Tensor, mean: Tensor, std: Tensor, channels_last: bool = False) -> Tensor:
    """Bytes to what a network sees: (images - mean) / std in float32.

    Args:
        images: (B, C, H, W), uint8.
        mean: (C, 1, 1), in byte units 0..255.
        std: (C, 1, 1), in byte units.
        channels_last: whether the result lies in memory pixel by pixel, which is faster for convolutions in bfloat16.

    >>> image = torch.full((1, 1, 2, 2), 255, dtype=torch.uint8)
    >>> normalise(image, torch.tensor([[[127.5]]]), torch.tensor([[[127.5]]])).unique().item()
    1.0
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    # Laid out last: three times as fast as together with the change of type.
    return images.float().sub_(mean).div_(std).contiguous(memory_format=layout)


def _within(length: int, centre: Tensor, size: int) -> Tensor:
    """(B, length): which pixels of a row or column lie in the hole."""
    start = centre[:, None] - size // 2
    place = torch.arange(length, device=centre.device)
    return (place >= start) & (place < start + size)
