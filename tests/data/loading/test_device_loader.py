from dataclasses import replace

import pytest
import torch

from attar.batch import Address
from attar.data import Augment, DeviceLoader, eval_batches
from attar.data.transforms.resized_crop import resized_crop
from attar.errors import AttarError

AUGMENT = Augment(crop_padding=2, flip=True, cutout=3)


def by_index(loader, epoch=0):
    """The epoch's images in the order of the set."""
    batches = list(loader.epoch(epoch))
    index = torch.cat([batch.index for batch in batches])
    assert torch.equal(index.sort().values, torch.arange(len(index)))
    return torch.cat([batch.inputs for batch in batches])[index.argsort()]


def test_every_image_once_an_epoch_with_its_label(images):
    batches = list(DeviceLoader(images, 16).epoch(0))
    index = torch.cat([batch.index for batch in batches])
    assert sorted(index.tolist()) == list(range(40))
    assert torch.equal(torch.cat([batch.labels for batch in batches]), images.labels[index])
    assert not torch.equal(index, torch.arange(40))


def test_a_run_that_starts_at_a_step_sees_the_same(images):
    loader = DeviceLoader(images, 7, AUGMENT, seed=3)
    whole = list(loader.epoch(2))
    for step in range(len(loader)):
        rest = list(DeviceLoader(images, 7, AUGMENT, seed=3).epoch(2, step))
        assert len(rest) == len(whole) - step
        for got, expected in zip(rest, whole[step:], strict=True):
            assert torch.equal(got.inputs, expected.inputs)
            assert torch.equal(got.index, expected.index)
            assert got.address == expected.address


@pytest.mark.parametrize("step", [2, 3, 4])
def test_steps_that_are_varied_together_stay_together_from_any_start(images, monkeypatch, step):
    monkeypatch.setattr(DeviceLoader, "_steps_at_once", lambda self: 2)
    loader, wanted = DeviceLoader(images, 7, AUGMENT, seed=3), []
    pixels = loader._pixels
    monkeypatch.setattr(loader, "_pixels", lambda numbers: wanted.append(numbers) or pixels(numbers))
    whole, rest = list(loader.epoch(2)), list(loader.epoch(2, step))
    assert [len(numbers) for numbers in wanted[0]] == [14, 14, 12]
    for one, other in zip(wanted[0][step // 2 :], wanted[1], strict=True):
        assert torch.equal(one, other)
    for got, expected in zip(rest, whole[step:], strict=True):
        assert torch.equal(got.inputs, expected.inputs)
        assert got.address == expected.address


def test_variation_does_not_depend_on_the_batch_size_or_the_order(images):
    small = by_index(DeviceLoader(images, 3, AUGMENT))
    assert torch.equal(small, by_index(DeviceLoader(images, 40, AUGMENT)))
    assert torch.equal(small, by_index(DeviceLoader(images, 8, AUGMENT, shuffle=False)))


def test_epochs_and_seeds_differ(images):
    first = by_index(DeviceLoader(images, 8, AUGMENT, seed=0), epoch=0)
    assert not torch.equal(first, by_index(DeviceLoader(images, 8, AUGMENT, seed=0), epoch=1))
    assert not torch.equal(first, by_index(DeviceLoader(images, 8, AUGMENT, seed=1), epoch=0))
    orders = [next(DeviceLoader(images, 40, seed=s).epoch(e)).index.tolist() for s, e in ((0, 0), (0, 1), (1, 0))]
    assert len(set(map(tuple, orders))) == 3


def test_global_randomness_is_neither_used_nor_moved(images):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = by_index(DeviceLoader(images, 8, AUGMENT))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(first, by_index(DeviceLoader(images, 8, AUGMENT)))


def test_batches_carry_their_address(images):
    batch = list(DeviceLoader(images, 8, seed=5, epochs=9).epoch(4))[2]
    assert batch.address == Address(seed=5, epoch=4, step=2)
    assert batch.epochs == 9
    assert batch.inputs.dtype == torch.float32


@pytest.mark.parametrize(
    ("size", "drop_last", "sizes"),
    [
        (20, False, [20, 20]),
        (13, False, [13, 14]),  # a single image is folded in
        (19, False, [19, 19, 2]),
        (19, True, [19, 19]),
        (13, True, [13, 13]),
        (39, False, [40]),
        (40, False, [40]),
        (1, False, [1] * 40),
    ],
)
def test_last_batch(make, size, drop_last, sizes):
    count = 27 if size == 13 else 40
    loader = DeviceLoader(make(count=count), size, drop_last=drop_last)
    assert [len(batch) for batch in loader.epoch(0)] == sizes
    assert len(loader) == len(sizes)


@pytest.mark.parametrize("size", [0, -1, 41])
def test_a_batch_size_that_cannot_be_is_refused(images, size):
    with pytest.raises(AttarError, match="batch_size must be 1 to 40"):
        DeviceLoader(images, size)


def test_a_padding_that_cannot_be_reflected_is_refused(images):
    with pytest.raises(AttarError, match="cannot reflect 8x8"):
        DeviceLoader(images, 8, Augment(crop_padding=8, padding_mode="reflect"))


def test_channels_last_changes_the_layout_alone(images):
    plain, last = (next(DeviceLoader(images, 8, AUGMENT, channels_last=flag).epoch(0)).inputs for flag in (False, True))
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(plain, last)


def test_evaluation_is_in_order_and_unvaried(images):
    batches = list(eval_batches(images, 16))
    assert [len(batch) for batch in batches] == [16, 16, 8]
    expected = (images.images.float() / 255 - 0.5) / 0.25
    torch.testing.assert_close(torch.cat([batch.inputs for batch in batches]), expected)
    assert torch.equal(torch.cat([batch.labels for batch in batches]), images.labels)


def test_evaluation_takes_a_batch_above_the_set(images):
    assert [len(batch) for batch in eval_batches(images, 1000)] == [40]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_sees_the_same_images(images):
    on_gpu = list(DeviceLoader(images, 8, AUGMENT, device="cuda").epoch(1))
    for got, expected in zip(on_gpu, DeviceLoader(images, 8, AUGMENT).epoch(1), strict=True):
        assert got.inputs.is_cuda
        torch.testing.assert_close(got.inputs.cpu(), expected.inputs)
        assert torch.equal(got.index.cpu(), expected.index)


STRONG = Augment(resized_crop=True, scale=(0.3, 1.0), flip=True, rand_augment=2, cutout=2)


def test_strong_variation_does_not_depend_on_the_batch_size_or_the_order(images):
    small = by_index(DeviceLoader(images, 3, STRONG))
    assert torch.equal(small, by_index(DeviceLoader(images, 40, STRONG)))
    assert torch.equal(small, by_index(DeviceLoader(images, 8, STRONG, shuffle=False, channels_last=True)))
    assert not torch.equal(small, by_index(DeviceLoader(images, 3, STRONG, seed=1)))


def test_a_strong_run_that_starts_at_a_step_sees_the_same(images):
    whole = list(DeviceLoader(images, 7, STRONG, seed=3).epoch(2))
    for got, expected in zip(DeviceLoader(images, 7, STRONG, seed=3).epoch(2, 3), whole[3:], strict=True):
        assert torch.equal(got.inputs, expected.inputs)


def test_views_are_the_same_images_varied_otherwise(images):
    plain = list(DeviceLoader(images, 8, AUGMENT).epoch(1))
    batches = list(DeviceLoader(images, 8, AUGMENT, views={"strong": STRONG, "plain": Augment()}).epoch(1))
    for one, batch in zip(plain, batches, strict=True):
        assert torch.equal(one.inputs, batch.inputs)
        expected = (images.images[batch.index].float() / 255 - 0.5) / 0.25
        torch.testing.assert_close(batch.view("plain"), expected)
        assert batch.view("strong").shape == batch.inputs.shape
        assert not torch.equal(batch.view("strong"), batch.inputs)


def test_each_view_has_choices_of_its_own(images):
    batch = next(DeviceLoader(images, 40, AUGMENT, views={"one": AUGMENT, "two": AUGMENT}).epoch(0))
    assert not torch.equal(batch.inputs, batch.view("one"))
    assert not torch.equal(batch.view("one"), batch.view("two"))


def test_a_view_that_was_not_asked_for_is_refused(images):
    with pytest.raises(AttarError, match="give the loader views="):
        next(DeviceLoader(images, 8).epoch(0)).view("strong")
    with pytest.raises(AttarError, match="did you mean 'strong'"):
        next(DeviceLoader(images, 8, views={"strong": STRONG}).epoch(0)).view("storng")


def test_colours_are_not_changed_where_there_are_none(make):
    with pytest.raises(AttarError, match="rand_augment changes colours, these images have 1 channel"):
        DeviceLoader(make(shape=(1, 8, 8)), 8, STRONG)


def test_a_margin_is_for_resized_crops_alone(make):
    wide = replace(make(shape=(3, 12, 12)), crop=8)
    inner = replace(wide, images=wide.images[:, :, 2:10, 2:10].contiguous(), crop=None)
    assert wide.image_shape == (3, 8, 8)
    for augment in (Augment(), AUGMENT):
        for last in (False, True):
            got = by_index(DeviceLoader(wide, 8, augment, channels_last=last))
            assert torch.equal(got, by_index(DeviceLoader(inner, 8, augment)))
    whole = Augment(resized_crop=True, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    scaled = resized_crop(wide.images, torch.tensor([[0, 0, 12, 12]]).expand(40, 4), (8, 8))
    torch.testing.assert_close(by_index(DeviceLoader(wide, 8, whole)), (scaled.float() / 255 - 0.5) / 0.25)
