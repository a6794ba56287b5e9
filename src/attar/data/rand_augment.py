"""RandAugment for a batch: N random changes of geometry and colour per image (Cubuk et al., arXiv:1909.13719)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from attar.data import colour
from attar.data.warp import IDENTITY, compose, rotation, shear, translation, warp

# How strong a change is at M = 30; the paper's ranges as torchvision has them.
MOST_SHEAR, MOST_SHIFT, MOST_DEGREES, MOST_FACTOR, MOST_BITS = 0.3, 150 / 331, 30.0, 0.9, 4
GEOMETRY = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
COLOUR = ("brightness", "saturation", "contrast", "sharpness", "posterise", "solarise", "autocontrast", "equalise")
CHANGES = ("identity", *GEOMETRY, *COLOUR)


def draw_changes(count: int, number: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(count, number) changes, as places in CHANGES, and the direction of each, -1.0 or 1.0.

    >>> changes, signs = draw_changes(4, 2, torch.Generator().manual_seed(0))
    >>> changes.shape, signs.shape
    (torch.Size([4, 2]), torch.Size([4, 2]))
    """
    changes = torch.randint(len(CHANGES), (count, number), generator=generator)
    signs = torch.randint(2, (count, number), generator=generator) * 2.0 - 1
    return changes, signs


def rand_augment(images: Tensor, changes: Tensor, signs: Tensor, magnitude: int) -> Tensor:
    """Each image changed by its own choices, one after another.

    Deviates: changes of geometry that follow one another are one bilinear warp, so that an image is not blurred
    twice. What a warp brings in from outside is black. Each single change is torchvision's.

    Args:
        images: (B, 3, H, W), uint8.
        changes: (B, N) on the CPU, as places in CHANGES.
        signs: (B, N) on the CPU, the direction of each, -1.0 or 1.0.
        magnitude: M, 0 to 30.

    Returns:
        (B, 3, H, W), uint8, in the images' memory format.

    >>> images = torch.full((1, 3, 8, 8), 100, dtype=torch.uint8)
    >>> brighter = rand_augment(images, torch.tensor([[CHANGES.index("brightness")]]), torch.ones(1, 1), 30)
    >>> brighter.unique().item()
    190
    """
    size = (images.shape[2], images.shape[3])
    last = not images.is_contiguous()
    # Kernels run on planes, whatever the layout.
    images = images.clone(memory_format=torch.contiguous_format)
    strength = magnitude / 30
    pending = IDENTITY.repeat(len(images), 1, 1)
    for change, sign in zip(changes.T, signs.T, strict=True):
        coloured = change >= CHANGES.index(COLOUR[0])
        _warp_(images, pending, coloured)
        for name in COLOUR:
            _colour_(images, name, (change == CHANGES.index(name)).nonzero()[:, 0], sign, strength)
        for name in GEOMETRY:
            chosen = change == CHANGES.index(name)
            pending[chosen] = compose(_matrix(name, sign[chosen] * strength, size), pending[chosen])
    _warp_(images, pending, torch.ones(len(images), dtype=torch.bool))
    return images.contiguous(memory_format=torch.channels_last) if last else images


def _warp_(images: Tensor, pending: Tensor, due: Tensor) -> None:
    """Carry out the geometry that waits for those images whose turn it is."""
    moved = (due & (pending != IDENTITY).any(2).any(1)).nonzero()[:, 0]
    if len(moved):
        _replace_(images, moved, lambda chosen: warp(chosen, pending[moved].to(images.device)))
        pending[moved] = IDENTITY


def _colour_(images: Tensor, name: str, chosen: Tensor, sign: Tensor, strength: float) -> None:
    if len(chosen):
        change: Callable[[Tensor], Tensor]
        if name in ("autocontrast", "equalise"):
            change = getattr(colour, name)
        elif name == "posterise":
            bits = 8 - round(MOST_BITS * strength)
            change = lambda images: colour.posterise(images, bits)  # noqa: E731
        elif name == "solarise":
            change = lambda images: colour.solarise(images, 255 * (1 - strength))  # noqa: E731
        else:
            factor = (1 + MOST_FACTOR * strength * sign[chosen]).to(images.device)
            change = lambda images: getattr(colour, name)(images, factor)  # noqa: E731
        _replace_(images, chosen, change)


def _replace_(images: Tensor, chosen: Tensor, change: Callable[[Tensor], Tensor]) -> None:
    chosen = chosen.to(images.device)
    images.index_copy_(0, chosen, change(images.index_select(0, chosen)))


def _matrix(name: str, amount: Tensor, size: tuple[int, int]) -> Tensor:
    """(n, 2, 3): where each pixel of the result comes from; `amount` is -1..1, n of them."""
    height, width = size
    if name == "rotate":
        return rotation(MOST_DEGREES * amount, size)
    if name == "shear_x":
        return shear(MOST_SHEAR * amount, 0)
    if name == "shear_y":
        return shear(MOST_SHEAR * amount, 1)
    # Whole pixels, towards none.
    if name == "translate_x":
        return translation((MOST_SHIFT * width * amount).trunc(), 0)
    return translation((MOST_SHIFT * height * amount).trunc(), 1)
