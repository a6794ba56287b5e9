"""How training images are varied, and crops, flips and holes for a whole batch at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from attar.batch import Address
from attar.data.transforms.rand_augment import draw_changes
from attar.data.transforms.registry import AUGMENTATIONS
from attar.data.transforms.resized_crop import draw_boxes
from attar.errors import AttarError, unknown

# The value of Augment.flip that mirrors an image in every second epoch.
ALTERNATE = "alternate"


@dataclass(frozen=True)
class Augment:
    """How training images are varied; by default not at all.

    >>> Augment(crop_padding=4).changed({"flip": True}).flip
    True
    """

    crop_padding: int = 0
    """Pixels added on every side before a window of the old size is cut out at random; the literature takes 4 of 32."""
    padding_mode: str = "zero"
    """What the added pixels show: zero (black), or reflect (the image's mirrored edge)."""
    flip: bool | str = False
    """Mirror every other image left to right, at random; not for digits or text. alternate: which half is mirrored is
    drawn once, and every later epoch mirrors the half that the one before did not (arXiv:2404.00498, section 3.6)."""
    cutout: int = 0
    """Side in pixels of a square hole at a random place, filled with the mean colour (arXiv:1708.04552); 0: none."""
    resized_crop: bool = False
    """Scale a random part of each image to the size the network sees, as ImageNet training does (arXiv:1409.4842);
    it takes the place of crop_padding."""
    scale: tuple[float, float] = (0.08, 1.0)
    """The least and largest area of that part, as a share of the image's."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Its least and largest width, as a multiple of its height."""
    rand_augment: int = 0
    """RandAugment's N: random changes of geometry and colour made to each image, one after another (arXiv:1909.13719);
    the paper takes 1 to 3."""
    magnitude: int = 9
    """RandAugment's M: how strong those changes are, 0 to 30."""
    own: tuple[tuple[str, object], ...] = ()
    """Registered augmentations with their values, in the order in which they act; see `register_augmentation`."""

    def __post_init__(self) -> None:
        if self.padding_mode not in ("zero", "reflect"):
            raise unknown("padding_mode", str(self.padding_mode), ("zero", "reflect"))
        for key, unit in {"crop_padding": "pixels", "cutout": "pixels", "rand_augment": "changes"}.items():
            if not _is_whole(getattr(self, key)):
                raise AttarError(f"augment.{key} must be a whole number of {unit} from 0, got {getattr(self, key)!r}")
        if not _is_whole(self.magnitude) or self.magnitude > 30:
            raise AttarError(f"augment.magnitude must be a whole number from 0 to 30, got {self.magnitude!r}")
        if not isinstance(self.flip, bool) and self.flip != ALTERNATE:
            raise AttarError(f"augment.flip must be true, false or {ALTERNATE}, got {self.flip!r}")
        if not isinstance(self.resized_crop, bool):
            raise AttarError(f"augment.resized_crop must be true or false, got {self.resized_crop!r}")
        for key, most in {"scale": 1.0, "ratio": math.inf}.items():
            object.__setattr__(self, key, _span(key, getattr(self, key), most))

    def changed(self, changes: Mapping[str, object]) -> Augment:
        """The same with some settings replaced; an unknown one is answered with the nearest."""
        known = [f.name for f in fields(self) if f.name != "own"]
        own, built_in = dict(self.own), {}
        for key, value in changes.items():
            if key in known:
                built_in[key] = value
            elif key in AUGMENTATIONS:
                own[key] = value
            else:
                raise unknown("key of augment:", key, [*known, *AUGMENTATIONS])
        return replace(self, own=tuple((key, value) for key, value in own.items() if value), **built_in)  # type: ignore[arg-type]

    def check(self, channels: int, height: int, width: int) -> None:
        """Refuse what these images cannot be put through.

        Raises:
            AttarError: the padding is too large to be reflected, or colours are to be changed where there are none.
        """
        if self.padding_mode == "reflect" and self.crop_padding >= min(height, width):
            raise AttarError(
                f"augment.crop_padding={self.crop_padding} cannot reflect {height}x{width} images; lower it"
            )
        if self.rand_augment and channels != 3:
            raise AttarError(
                f"augment.rand_augment changes colours, these images have {channels} channel; leave it out"
            )


def _is_whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0


def _span(key: str, given: object, most: float) -> tuple[float, float]:
    """A pair of positive numbers in order."""
    match given:
        case [int() | float() as low, int() | float() as high] if 0 < low <= high <= most:
            return float(low), float(high)
    limit = "" if most == math.inf else f" up to {most:g}"
    raise AttarError(f"augment.{key} must be two numbers above 0{limit}, the smaller first, got {given!r}")


@dataclass(frozen=True)
class Choices:
    """Random choices for N images: the fields of a subclass are tensors of one entry each, or None."""

    # These choose which code runs for an image, and asking a device for them would wait for it.
    on_cpu: ClassVar[tuple[str, ...]] = ()

    def __getitem__(self, index: Tensor | slice) -> Self:
        return self._each(lambda _, values: values[index])

    def __add__(self, others: Self) -> Self:
        """The choices for further images after these."""
        return self._each(lambda name, values: torch.cat([values, getattr(others, name)]))

    def to(self, device: torch.device | str) -> Self:
        """The same choices on another device, apart from those that are needed on the CPU."""
        return self._each(lambda name, values: values if name in self.on_cpu else values.to(device))

    def _each(self, change: Callable[[str, Tensor], Tensor]) -> Self:
        held = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: change(name, values) for name, values in held.items() if values is not None})


@dataclass(frozen=True)
class Moves(Choices):
    """How N images are varied.

    Attributes:
        top, left: (N,) the window's corner in the padded image, in pixels.
        flip: (N,) whether the image is mirrored.
        row, column: (N,) the centre of the hole, in pixels.
        box: (N, 4) top, left, height and width of the part that is scaled, in pixels; None: no such part.
        changes: (N, n) RandAugment's changes, as numbers of `rand_augment.CHANGES`; None: none.
        signs: (N, n) the direction of each, -1.0 or 1.0; None: none.
        own: (N, n) the random numbers of augmentations of one's own, side by side; None: none.
    """

    top: Tensor
    left: Tensor
    flip: Tensor
    row: Tensor
    column: Tensor
    box: Tensor | None = None
    changes: Tensor | None = None
    signs: Tensor | None = None
    own: Tensor | None = None

    on_cpu = ("changes", "signs")


def draw(
    augment: Augment,
    count: int,
    height: int,
    width: int,
    address: Address,
    view: str = "",
    stored: tuple[int, int] | None = None,
) -> Moves:
    """The random choices for every image of a set in one epoch: entry i belongs to image i, whatever the batches are.

    Args:
        augment: how images are varied.
        count: how many images there are.
        height, width: the size that networks see, in pixels.
        address: the seed and the epoch.
        view: which of several views of an image the choices are for; each has choices of its own.
        stored: height and width of the images where they have a margin around that.

    >>> draw(Augment(crop_padding=4, flip=True), count=5, height=32, width=32, address=Address(epoch=3)).top.shape
    torch.Size([5])
    """

    def stream(purpose: str, at: Address = address) -> torch.Generator:
        return at.generator(f"{view}/{purpose}" if view else purpose)

    hole, changes, signs = stream("cutout"), None, None
    alternate = augment.flip == ALTERNATE
    mirrored = torch.rand(count, generator=stream("flip", Address(address.seed) if alternate else address)) < 0.5
    top, left = torch.randint(2 * augment.crop_padding + 1, (2, count), generator=stream("crop"))
    if augment.rand_augment:
        changes, signs = draw_changes(count, augment.rand_augment, stream("rand_augment"))
    own = [torch.rand(count, AUGMENTATIONS[name].numbers, generator=stream(f"own/{name}")) for name, _ in augment.own]
    return Moves(
        top=top,
        left=left,
        flip=mirrored ^ bool(alternate and address.epoch % 2),
        row=torch.randint(height, (count,), generator=hole),
        column=torch.randint(width, (count,), generator=hole),
        box=draw_boxes(count, stored or (height, width), augment.scale, augment.ratio, stream("resized_crop"))
        if augment.resized_crop
        else None,
        changes=changes,
        signs=signs,
        own=torch.cat(own, dim=1) if own else None,
    )


def centre(images: Tensor, height: int, width: int) -> Tensor:
    """The middle of each image (B, C, H, W), in the images' memory format."""
    layout = torch.contiguous_format if images.is_contiguous() else torch.channels_last
    top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
    return images[:, :, top : top + height, left : left + width].contiguous(memory_format=layout)


def crop_and_flip(images: Tensor, augment: Augment, moves: Moves) -> Tensor:
    """Each image shifted and mirrored by its own choices.

    Args:
        images: (B, C, H, W) of any type, in either memory format.
        augment: the padding (unless a resized crop takes its place), and whether images are flipped.
        moves: the choices for these B images.

    Returns:
        (B, C, H, W) of the same type and in the same memory format.
    """
    padding = 0 if augment.resized_crop else augment.crop_padding
    if not padding and not augment.flip:
        return images
    top, left = (moves.top, moves.left) if padding else (torch.zeros_like(moves.top),) * 2
    flip = moves.flip if augment.flip else None
    batch, channels, height, width = images.shape
    if images.is_contiguous():
        planes = images.view(batch * channels, height, width, 1)
        top, left = top.repeat_interleave(channels), left.repeat_interleave(channels)
        flip = None if flip is None else flip.repeat_interleave(channels)
        return _windows(planes, padding, augment.padding_mode, top, left, flip).view(images.shape)
    pixels = images.permute(0, 2, 3, 1).contiguous()
    return _windows(pixels, padding, augment.padding_mode, top, left, flip).permute(0, 3, 1, 2)


def _windows(pixels: Tensor, padding: int, mode: str, top: Tensor, left: Tensor, flip: Tensor | None) -> Tensor:
    """A window of the old size out of each padded image (G, H, W, C), mirrored where `flip` is true."""
    count, height, width, channels = pixels.shape
    padded = pad(pixels, padding, mode)
    number = torch.arange(count, device=pixels.device)
    if flip is not None:
        # A window mirrored is a window of the mirrored image, counted from the other side.
        padded = torch.cat([padded, padded.flip(2)])
        number = number + count * flip
        left = torch.where(flip, 2 * padding - left, left)
    rows = (number * (height + 2 * padding) + top)[:, None] + torch.arange(height, device=pixels.device)
    start = rows * (width + 2 * padding) + left[:, None]
    # Every run of `width` pixels as a row of a view, so that one selection copies whole rows.
    runs = padded.view(-1).as_strided((padded.numel() // channels - width + 1, width * channels), (channels, 1))
    return runs.index_select(0, start.flatten()).view(pixels.shape)


def pad(pixels: Tensor, padding: int, mode: str) -> Tensor:
    """(G, H, W, C) with pixels added on every side, black ("zero") or mirrored without the edge itself ("reflect")."""
    if not padding:
        return pixels
    if mode == "zero":
        return F.pad(pixels, (0, 0, *(padding,) * 4))
    # By index, because F.pad does not reflect bytes.
    for dim in (1, 2):
        size = pixels.shape[dim]
        around = torch.arange(-padding, size + padding, device=pixels.device).abs()
        pixels = pixels.index_select(dim, size - 1 - (size - 1 - around).abs())
    return pixels


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
    if not channels_last:
        return images.float().sub_(mean).div_(std).contiguous()
    batch, channels, height, width = images.shape
    pixels = images.permute(0, 2, 3, 1).contiguous().view(batch, height, width * channels)
    # Whole rows at once, because a loop over three channels is slow.
    mean, std = (values.flatten().repeat(width) for values in (mean, std))
    return pixels.float().sub_(mean).div_(std).view(batch, height, width, channels).permute(0, 3, 1, 2)


def _within(length: int, centre: Tensor, size: int) -> Tensor:
    """(B, length): which pixels of a row or column lie in the hole."""
    start = centre[:, None] - size // 2
    place = torch.arange(length, device=centre.device)
    return (place >= start) & (place < start + size)
