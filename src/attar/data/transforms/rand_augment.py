"""RandAugment for a batch: N random changes of geometry and colour per image (Cubuk et al., arXiv:1909.13719)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from attar.batch import upload
from attar.data.transforms import colour
from attar.data.transforms.affine import IDENTITY, compose, rotation, shear, translation, warp

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
    last = not images.is_contiguous()
    # Kernels run on planes, whatever the layout.
    images = images.clone(memory_format=torch.contiguous_format)
    strength = magnitude / 30
    planned = _plan(changes, signs, strength, (images.shape[2], images.shape[3]))
    places = upload([one.places for one in planned], images.device)
    numbers = upload([one.numbers for one in planned], images.device)
    for one, chosen, given in zip(planned, places, numbers, strict=True):
        images.index_copy_(0, chosen, _changed(images.index_select(0, chosen), one.name, given, strength))
    return images.contiguous(memory_format=torch.channels_last) if last else images


class _Planned(NamedTuple):
    """One change of some images of a batch.

    Attributes:
        name: of COLOUR, or "warp".
        places: (n,) the images.
        numbers: for each image its factor (n,), or its matrix (n, 2, 3).
    """

    name: str
    places: Tensor
    numbers: Tensor


def _plan(changes: Tensor, signs: Tensor, strength: float, size: tuple[int, int]) -> list[_Planned]:
    """Applies changes to a batch in order; geometry is delayed until the next change of colour, or the end."""
    planned, pending = [], IDENTITY.repeat(len(changes), 1, 1)
    for change, sign in zip(changes.T, signs.T, strict=True):
        planned.append(_due(pending, change >= CHANGES.index(COLOUR[0])))
        for name in COLOUR:
            chosen = (change == CHANGES.index(name)).nonzero()[:, 0]
            planned.append(_Planned(name, chosen, 1 + MOST_FACTOR * strength * sign[chosen]))
        for name in GEOMETRY:
            those = change == CHANGES.index(name)
            pending[those] = compose(_matrix(name, sign[those] * strength, size), pending[those])
    planned.append(_due(pending, torch.ones(len(changes), dtype=torch.bool)))
    return [one for one in planned if len(one.places)]


def _due(pending: Tensor, due: Tensor) -> _Planned:
    """Apply the delayed geometry of those images; nothing is delayed for them afterwards."""
    moved = (due & (pending != IDENTITY).any(2).any(1)).nonzero()[:, 0]
    matrices = pending[moved]
    pending[moved] = IDENTITY
    return _Planned("warp", moved, matrices)


def _changed(images: Tensor, name: str, numbers: Tensor, strength: float) -> Tensor:
    if name == "warp":
        return warp(images, numbers)
    if name == "posterise":
        return colour.posterise(images, 8 - round(MOST_BITS * strength))
    if name == "solarise":
        return colour.solarise(images, 255 * (1 - strength))
    change: Callable[..., Tensor] = getattr(colour, name)
    return change(images) if name in ("autocontrast", "equalise") else change(images, numbers)


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
