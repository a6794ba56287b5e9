"""Repeated augmentation: copies of an image varied apart, in an epoch of as many steps."""

import pytest
import torch

from attar.data import Augment, DeviceLoader, Mixing
from attar.errors import AttarError

AUGMENT = Augment(crop_padding=4, flip=True)


def whole(loader, epoch=0):
    """An epoch's images, their numbers and labels."""
    batches = list(loader.epoch(epoch))
    return [torch.cat([getattr(one, name) for one in batches]) for name in ("inputs", "index", "labels")]


def test_an_epoch_shows_a_part_of_the_images_several_times(images):
    loader = DeviceLoader(images, 8, AUGMENT, repeats=3)
    inputs, index, labels = whole(loader)
    assert (len(index), len(loader)) == (40, 5)
    assert sorted(index.unique(return_counts=True)[1].tolist()) == [2, 2, *[3] * 12]
    assert torch.equal(labels, images.labels[index])
    assert not torch.equal(index, whole(loader, epoch=1)[1])
    first = inputs[index == index[0]]
    assert len({tuple(one.flatten().tolist()) for one in first}) > 1


def test_copies_do_not_depend_on_batches_shares_and_where_a_run_goes_on(images):
    settings = {"repeats": 3, "mixing": Mixing(mixup=0.5)}
    loader = DeviceLoader(images, 8, AUGMENT, **settings)
    inputs, index, labels = whole(loader)
    for got, expected in zip(whole(DeviceLoader(images, 5, AUGMENT, **settings)), (inputs, index, labels), strict=True):
        assert torch.equal(got, expected)
    assert torch.equal(next(iter(loader.epoch(0, start_step=2))).inputs, inputs[16:24])
    halves = [DeviceLoader(images, 8, AUGMENT, share=(number, 2), **settings) for number in range(2)]
    assert torch.equal(torch.cat([next(iter(half.epoch(0))).inputs for half in halves]), inputs[:8])


def test_a_copy_is_mixed_with_another_image(images):
    order = DeviceLoader(images, 8, repeats=3)._repeated(torch.randperm(40)) % 40
    own, partners = order[:, :36]
    assert not (own == partners).any()
    assert torch.equal(own[:6], own[:2].repeat(3))


def test_images_without_labels_are_not_repeated(images):
    unlabelled = images.subset(torch.arange(8))
    with pytest.raises(AttarError, match=r"data\.repeats repeats images with labels only"):
        DeviceLoader(images, 8, unlabelled=unlabelled, repeats=2)
