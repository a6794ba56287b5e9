import pytest
import torch

from attar.data.transforms.rand_augment import CHANGES, draw_changes, rand_augment


def one(images, name, sign=1.0, magnitude=9):
    count = len(images)
    return rand_augment(images, torch.full((count, 1), CHANGES.index(name)), torch.full((count, 1), sign), magnitude)


OURS = {"saturation": "Color", "posterise": "Posterize", "solarise": "Solarize", "autocontrast": "AutoContrast"}
OURS |= {"equalise": "Equalize"}


@pytest.mark.parametrize("magnitude", [0, 9, 30])
@pytest.mark.parametrize("name", CHANGES)
def test_each_change_is_torchvisions_at_that_magnitude(torchvision, photographs, name, magnitude):
    reference = torchvision.RandAugment(interpolation=torchvision.InterpolationMode.BILINEAR)
    theirs = OURS.get(name, "".join(part.capitalize() for part in name.split("_")))
    magnitudes, signed = reference._AUGMENTATION_SPACE[theirs]
    level = magnitudes(31, 40, 52)
    strength = level[magnitude].item() if level is not None else 0.0
    for sign in (-1.0, 1.0) if signed else (1.0,):
        expected = reference._apply_image_or_video_transform(
            photographs, theirs, sign * strength, interpolation=reference.interpolation, fill=reference._fill
        )
        gap = (one(photographs, name, sign, magnitude).int() - expected.int()).abs()
        assert gap.max() <= 1
        assert (gap > 0).float().mean() < 0.02


def test_changes_come_in_their_order(photographs):
    first, second = CHANGES.index("solarise"), CHANGES.index("rotate")
    both = rand_augment(photographs, torch.tensor([[first, second]] * 6), torch.ones(6, 2), 15)
    assert torch.equal(both, one(one(photographs, "solarise", magnitude=15), "rotate", magnitude=15))
    other = rand_augment(photographs, torch.tensor([[second, first]] * 6), torch.ones(6, 2), 15)
    assert torch.equal(other, one(one(photographs, "rotate", magnitude=15), "solarise", magnitude=15))
    assert not torch.equal(both, other)


def test_changes_of_geometry_are_one_warp(photographs):
    # There and back again leaves what stayed inside as sharp as it was.
    place, signs = CHANGES.index("rotate"), torch.tensor([[1.0, -1.0]] * 6)
    assert torch.equal(rand_augment(photographs, torch.full((6, 2), place), signs, 10), photographs)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_an_image_is_changed_alike_in_any_batch_and_layout(photographs, layout):
    images = photographs.repeat(8, 1, 1, 1).contiguous(memory_format=layout)
    changes, signs = draw_changes(len(images), 3, torch.Generator().manual_seed(0))
    together = rand_augment(images, changes, signs, 12)
    assert together.is_contiguous(memory_format=layout)
    for i in range(len(images)):
        chosen = slice(i, i + 1)
        alone = rand_augment(photographs.repeat(8, 1, 1, 1)[chosen], changes[chosen], signs[chosen], 12)
        assert torch.equal(alone, together[chosen])


def test_the_given_images_stay_as_they_are(photographs):
    before = photographs.clone()
    changes, signs = draw_changes(6, 2, torch.Generator().manual_seed(0))
    rand_augment(photographs, changes, signs, 30)
    assert torch.equal(photographs, before)


def test_every_change_is_drawn_equally_often_and_both_ways():
    changes, signs = draw_changes(14000, 2, torch.Generator().manual_seed(0))
    counts = changes.flatten().bincount(minlength=len(CHANGES))
    assert ((counts - 2000).abs() < 200).all()
    assert abs(signs.mean().item()) < 0.03
    assert signs.unique().tolist() == [-1.0, 1.0]
