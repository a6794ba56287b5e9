"""Small image sets that the tests share."""

import pytest
import torch

from attar.data import ImageSet


def make_images(count: int = 40, classes: int = 4, shape: tuple[int, int, int] = (3, 8, 8), seed: int = 0) -> ImageSet:
    pixels = torch.randint(256, (count, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    channels = shape[0]
    names = tuple(f"class{number}" for number in range(classes))
    return ImageSet(pixels, torch.arange(count) % classes, names, "made", (0.5,) * channels, (0.25,) * channels)


@pytest.fixture
def images() -> ImageSet:
    return make_images()


@pytest.fixture
def make():
    return make_images
