import math

import pytest
import torch

from attar.data.transforms.affine import IDENTITY, compose, rotation, shear, translation, warp


def reference(torchvision, image, name, amount):
    """torchvision's RandAugment changes of geometry, bilinear."""
    functional, bilinear = torchvision.functional, torchvision.InterpolationMode.BILINEAR
    if name == "rotate":
        return functional.rotate(image, amount, interpolation=bilinear)
    phase = math.degrees(math.atan(amount))
    affine = {
        "shear_x": {"translate": [0, 0], "shear": [phase, 0.0], "center": [0, 0]},
        "shear_y": {"translate": [0, 0], "shear": [0.0, phase], "center": [0, 0]},
        "translate_x": {"translate": [int(amount), 0], "shear": [0.0, 0.0]},
        "translate_y": {"translate": [0, int(amount)], "shear": [0.0, 0.0]},
    }[name]
    return functional.affine(image, angle=0.0, scale=1.0, interpolation=bilinear, **affine)


def matrix(name, amount, size):
    amount = torch.tensor([amount])
    if name == "rotate":
        return rotation(amount, size)
    if name.startswith("shear"):
        return shear(amount, int(name.endswith("y")))
    return translation(amount, int(name.endswith("y")))


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(
    ("name", "amount"),
    [("rotate", 9.0), ("shear_x", 0.3), ("shear_y", 0.09), ("translate_x", 7.0), ("translate_y", 3.0)],
)
def test_every_change_is_torchvisions(torchvision, photographs, name, amount, sign):
    matrices = matrix(name, sign * amount, (40, 52)).repeat(len(photographs), 1, 1)
    result, expected = warp(photographs, matrices), reference(torchvision, photographs, name, sign * amount)
    gap = (result.int() - expected.int()).abs()
    assert gap.max() <= 1
    assert (gap > 0).float().mean() < 0.02
    assert not torch.equal(result, photographs)


def test_composed_changes_come_one_after_another():
    # Whole pixels and quarter turns, so that nothing is blurred.
    images = torch.randint(256, (1, 3, 8, 8), dtype=torch.uint8)
    shift, phase = translation(torch.tensor([3.0]), 0), rotation(torch.tensor([90.0]), (8, 8))
    assert torch.equal(warp(images, compose(phase, shift)), warp(warp(images, shift), phase))
    assert torch.equal(warp(images, phase), images.rot90(1, (2, 3)))
    assert not torch.equal(warp(images, compose(shift, phase)), warp(images, compose(phase, shift)))


def test_the_identity_changes_nothing(photographs):
    assert torch.equal(warp(photographs, IDENTITY.expand(6, 2, 3)), photographs)


def test_composed_matrices_are_the_product():
    last = torch.tensor([[[0.0, 0.0, 1.0]]])
    phase, slant = rotation(torch.tensor([30.0]), (8, 8)), shear(torch.tensor([0.3]), 0)
    product = torch.cat([slant, last], 1) @ torch.cat([phase, last], 1)
    torch.testing.assert_close(compose(phase, slant), product[:, :2])
