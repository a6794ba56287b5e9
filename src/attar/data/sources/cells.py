"""Images with a dot on every object: NNNcell.png beside NNNdots.png, as the VGG cells are published."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from attar.batch import Inputs
from attar.data.tensor_set import TensorSet
from attar.decoding import image_header, not_black, read_image, require_pillow
from attar.errors import AttarError, first_line

CELL = re.compile(r"(.*)cell(\.\w+)")
# Of ImageNet, which CSRNet and SKT normalise by.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# A network's density map has a pixel for a square of so many.
STRIDE = 8


def read_cells(folder: Path, sigma: float = 4.0) -> TensorSet:
    """Every pair of a folder: images (N, 3, H, W), normalised, and density maps (N, 1, H/8, W/8).

    A dot becomes a Gaussian that sums to 1 inside the image, so that a map sums to the number of dots also where
    they lie at a border; squares of 8 x 8 pixels are then added up.

    Args:
        folder: holds NNNcell.png and NNNdots.png; in the latter every pixel that is not black is a dot.
        sigma: the Gaussians' deviation in pixels; 4 for the cells' size (ours; CSRNet uses 15 for crowds).

    Raises:
        AttarError: there is no pair, a file is missing or damaged, the images differ in size or do not divide by 8, or
            dots lie outside the image.
    """
    require_pillow()
    if not folder.is_dir():
        raise AttarError(f"{folder} is no folder; give data.root=FOLDER with NNNcell.png and NNNdots.png")
    pairs = [(file, found) for file in sorted(folder.iterdir()) if (found := CELL.fullmatch(file.name))]
    if not pairs:
        raise AttarError(f"{folder} holds no images named NNNcell.png; name each image so, its dots NNNdots.png")
    if not sigma > 0:
        raise AttarError(f"sigma is {sigma}; give a number of pixels above 0")
    images: list[np.ndarray] = []
    maps: list[Tensor] = []
    for cell, name in pairs:
        dots = cell.with_name(f"{name[1]}dots{name[2]}")
        if not dots.is_file():
            raise AttarError(f"{cell} has no {dots.name} beside it; add it, or remove the image")
        pixels, marks = read(cell), read_dots(dots)
        if pixels.shape[:2] != marks.shape:
            raise AttarError(
                f"{dots} is {marks.shape[1]} x {marks.shape[0]} pixels, its image {pixels.shape[1]} x "
                f"{pixels.shape[0]}: dots would lie outside the image; draw both at one size"
            )
        if images and pixels.shape != images[0].shape:
            raise AttarError(f"{cell} is of another size than {pairs[0][0].name}; bring all images to one size")
        images.append(pixels)
        rows, columns = np.nonzero(marks)
        maps.append(density(torch.from_numpy(np.stack([rows, columns], 1)), pixels.shape[:2], sigma))
    height, width = images[0].shape[:2]
    if height % STRIDE or width % STRIDE:
        raise AttarError(f"images of {folder} are {width} x {height} pixels; both sides must divide by {STRIDE}")
    stack = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (MEAN, STD))
    facts = {"mean": list(MEAN), "std": list(STD)}
    return TensorSet((stack - mean) / std, torch.stack(maps), folder.name, outputs=1, vary=flipped, facts=facts)


def read(file: Path) -> np.ndarray:
    """An image as (H, W, 3) bytes at its own size, upright.

    Raises:
        AttarError: it is damaged, or too large.
    """
    with naming(file):
        width, height = image_header(file)[0]
        return read_image(file, (height, width))


def read_dots(file: Path) -> np.ndarray:
    """(H, W), true where an image is not black.

    Raises:
        AttarError: it is damaged, or too large.
    """
    with naming(file):
        return not_black(file)


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Within it, whatever Pillow has against an image is one line with its file."""
    from PIL import Image

    try:
        yield
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise AttarError(f"{file} cannot be read ({first_line(error)}); replace it") from None


def density(dots: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
    """Dots (n, 2) in rows and columns as a density map (1, H/8, W/8) that sums to n.

    Raises:
        AttarError: a dot lies outside the image.

    >>> round(density(torch.tensor([[0, 0], [9, 30]]), (16, 32), sigma=2.0).sum().item(), 4)
    2.0
    """
    limits = torch.tensor(size)
    outside = ((dots < 0) | (dots >= limits)).any(1)
    if outside.any():
        row, column = dots[outside][0].tolist()
        raise AttarError(f"a dot at row {row}, column {column} lies outside the image of {size[1]} x {size[0]} pixels")
    along = [gaussians(dots[:, axis], side, sigma) for axis, side in enumerate(size)]
    whole = along[0].T @ along[1]
    height, width = size
    return whole.reshape(height // STRIDE, STRIDE, width // STRIDE, STRIDE).sum((1, 3))[None].float()


def gaussians(centres: Tensor, side: int, sigma: float) -> Tensor:
    """(n, side): a Gaussian around each centre that sums to 1 over the pixels there are."""
    distance = torch.arange(side, dtype=torch.float64) - centres[:, None]
    bells = torch.exp(-distance.square() / (2 * sigma**2))
    return bells / bells.sum(1, keepdim=True)


def flipped(images: Inputs, maps: Tensor, draws: Tensor) -> tuple[Inputs, Tensor]:
    """Images and maps, each mirrored left to right, top to bottom, both or neither."""
    assert isinstance(images, Tensor)
    for axis, draw in ((3, draws[:, 0]), (2, draws[:, 1])):
        mirror = (draw < 0.5)[:, None, None, None]
        images = torch.where(mirror, images.flip(axis), images)
        maps = torch.where(mirror, maps.flip(axis), maps)
    return images, maps
