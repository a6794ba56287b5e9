"""Augmentations of one's own: drawn by address, applied to bytes, refused in one line where they do not fit."""

import pytest
import torch

from attar.data import Augment, DeviceLoader, ImageSet, register_augmentation
from attar.data.transforms.registry import AUGMENTATIONS
from attar.errors import AttarError


@pytest.fixture(autouse=True)
def table_as_before(monkeypatch):
    monkeypatch.setattr(AUGMENTATIONS, "_entered", {})


@pytest.fixture
def images():
    pixels = torch.full((6, 1, 4, 4), 100, dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(6) % 2, ("a", "b"), "grey", (0.0,), (1 / 255,))


def brighter(images, numbers, value):
    return images + (value * numbers[:, :1, None, None]).to(torch.uint8)


def epochs(images, **settings):
    """By image, what two epochs show of it: pixels in bytes."""
    loader = DeviceLoader(images, 4, Augment().changed({"brighter": 50}), **settings)
    shown = []
    for epoch in (0, 1):
        batches = list(loader.epoch(epoch))
        order = torch.cat([batch.index for batch in batches]).argsort()
        shown.append(torch.cat([batch.inputs for batch in batches])[order][:, 0, 0, 0])
    return torch.stack(shown)


def test_each_image_has_numbers_of_its_own_in_each_epoch(images):
    register_augmentation("brighter", title="adds up to VALUE", numbers=2)(brighter)
    shown = epochs(images)
    assert shown.min() >= 100
    assert shown.max() < 150
    assert len(shown.unique()) > 8
    assert torch.equal(shown, epochs(images))
    assert torch.equal(shown, epochs(images, channels_last=True))
    assert not torch.equal(shown, epochs(images, seed=1))


def test_the_built_in_choices_are_what_they_were_without_it(images):
    register_augmentation("brighter", title="adds up to VALUE")(lambda images, numbers, value: images)
    pixels = torch.randint(256, (6, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = ImageSet(pixels, images.labels, images.classes, "random", images.mean, images.std)
    plain = Augment(crop_padding=1, flip=True)
    both = [next(DeviceLoader(images, 6, one).epoch(0)) for one in (plain, plain.changed({"brighter": 1}))]
    assert torch.equal(both[0].inputs, both[1].inputs)


def test_names_are_checked(images):
    with pytest.raises(AttarError, match=r"unknown key of augment: 'brigter'"):
        Augment().changed({"brigter": 1})
    register_augmentation("brighter", title="adds up to VALUE")(brighter)
    with pytest.raises(AttarError, match=r"unknown key of augment: 'brigter'; did you mean 'brighter'\?"):
        Augment().changed({"brigter": 1})
    with pytest.raises(AttarError, match="augmentation 'flip' is built in; choose another name"):
        register_augmentation("flip", title="mine")
    with pytest.raises(AttarError, match="augmentation 'brighter' is registered already"):
        register_augmentation("brighter", title="mine")(brighter)
    assert Augment().changed({"brighter": 1}).changed({"brighter": 0}) == Augment()


def test_another_shape_or_type_is_refused(images):
    register_augmentation("floats", title="wrong")(lambda images, numbers, value: images / 2)
    with pytest.raises(AttarError, match=r"augmentation 'floats' must give \(4, 1, 4, 4\) uint8, got .* torch.float32"):
        next(DeviceLoader(images, 4, Augment().changed({"floats": 1})).epoch(0))
