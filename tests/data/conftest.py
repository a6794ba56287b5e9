"""Small image sets that the tests share."""

import importlib
import importlib.util

import pytest
import torch

from attar.data import ImageSet
from attar.models.libraries.imports import import_torchvision


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


def make_photographs(count: int = 6, height: int = 40, width: int = 52, seed: int = 0) -> torch.Tensor:
    """Bytes (N, 3, H, W) with what photographs have: smooth parts, edges, dark and bright ones, and a little noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 5, 6, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    blocks = torch.rand(count, 3, 4, 4, generator=generator).repeat_interleave(height // 4, 2)
    smooth += 0.5 * (blocks.repeat_interleave(width // 4, 3) > 0.7)
    smooth += 0.03 * torch.randn(count, 3, height, width, generator=generator)
    level = torch.linspace(0.3, 1.1, count)[:, None, None, None]
    return (255 * (level * smooth).clamp(0, 1)).to(torch.uint8)


@pytest.fixture
def photographs() -> torch.Tensor:
    return make_photographs()


@pytest.fixture(scope="session")
def torchvision():
    """torchvision's transforms, the oracle."""
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision, the oracle of these tests, is not installed")
    import_torchvision()
    return importlib.import_module("torchvision.transforms.v2")
