from dataclasses import replace

import pytest
import torch

from attar.data import ImageSet, Splits
from attar.errors import AttarError


def test_subset_keeps_order_and_everything_else(images):
    part = images.subset(torch.tensor([5, 2]))
    assert torch.equal(part.images, images.images[[5, 2]])
    assert part.labels.tolist() == [1, 2]
    assert part.classes == images.classes


def test_fingerprint_follows_the_contents(make):
    images = make()
    assert images.fingerprint == make().fingerprint
    assert images.fingerprint != make(seed=1).fingerprint
    relabelled = ImageSet(images.images, images.labels.flip(0), images.classes, "made", images.mean, images.std)
    restated = ImageSet(images.images, images.labels, images.classes, "made", (0.4,) * 3, images.std)
    assert len({images.fingerprint, relabelled.fingerprint, restated.fingerprint}) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(4, 3, 2, 2)}, "must be uint8"),
        ({"images": torch.zeros(3, 2, 2, dtype=torch.uint8)}, "must be uint8"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, "one per image"),
        ({"labels": torch.zeros(4)}, "must be int64"),
        ({"labels": torch.full((4,), 2)}, r"must be 0\.\.1"),
        ({"labels": torch.tensor([-1, 0, 1, 0])}, r"must be 0\.\.1"),
        ({"mean": (0.5,)}, "3 channels"),
        ({"std": (0.5, 0.5, 0.0)}, "positive deviations"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    good = {
        "images": torch.zeros(4, 3, 2, 2, dtype=torch.uint8),
        "labels": torch.tensor([0, 1, 0, 1]),
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
    }
    with pytest.raises(AttarError, match=message):
        ImageSet(**{**good, **change}, classes=("a", "b"), name="made")


def test_resized_scales_the_shorter_side_and_cuts_the_centre():
    wide = torch.zeros(1, 1, 4, 8, dtype=torch.uint8)
    wide[..., 2:6] = 200
    images = ImageSet(wide, torch.tensor([0]), ("a",), "wide", (0.5,), (0.5,))
    assert images.resized(4).images.unique().tolist() == [200]
    assert images.resized(8).image_shape == (1, 8, 8)


def test_resized_at_the_same_size_is_the_same_set(images):
    assert images.resized(8) is images


def test_splits_must_agree(make):
    with pytest.raises(AttarError, match=r"test images are \(3, 4, 4\)"):
        Splits(make(), make(shape=(3, 4, 4)))
    with pytest.raises(AttarError, match="val and training set have different classes"):
        Splits(make(), make(), val=make(classes=3))
    with pytest.raises(AttarError, match="the test set has no images"):
        Splits(make(), make().subset(torch.tensor([], dtype=torch.int64)))


def test_splits_know_their_shape(make):
    splits = Splits(make(), make())
    assert splits.num_classes == 4
    assert splits.image_shape == (3, 8, 8)


def test_a_crop_is_what_networks_see_and_scales_with_the_image(make):
    images = replace(make(shape=(3, 16, 16)), crop=12)
    assert images.image_shape == (3, 12, 12)
    small = images.resized(6)
    assert (small.image_shape, small.stored_size) == ((3, 6, 6), (8, 8))
    assert images.fingerprint != replace(images, crop=None).fingerprint
    with pytest.raises(AttarError, match="a crop of 17 pixels does not fit the 16x16 images"):
        replace(images, crop=17)


def test_parts_keep_the_memory_format(make):
    images = make()
    last = replace(images, images=images.channels_last)
    part = last.subset(torch.tensor([5, 2]))
    assert part.images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(part.images, images.images[[5, 2]])
    assert last.fingerprint == images.fingerprint
