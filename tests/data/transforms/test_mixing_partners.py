"""Mixed batches: who is mixed with whom, and that it hangs on nothing but the address."""

import pytest
import torch
from torch.nn import functional as F

from attar.batch import Address
from attar.data import Augment, DeviceLoader, ImageSet, Mixing
from attar.data.transforms.mixing_partners import reading

AUGMENT = Augment(crop_padding=2, flip=True, cutout=3)
STRONG = Augment(resized_crop=True, scale=(0.3, 1.0), flip=True, rand_augment=2)
BOTH = Mixing(mixup=1.0, cutmix=1.0)


def joined(loader, epoch=2):
    """An epoch's rows in the order of the set: images, labels, and further views."""
    batches = list(loader.epoch(epoch))
    place = torch.cat([batch.index for batch in batches]).argsort()
    parts = [[batch.inputs, batch.labels, *batch.views.values()] for batch in batches]
    return [torch.cat(rows)[place] for rows in zip(*parts, strict=True)]


def same(some, others):
    assert len(some) == len(others)
    assert all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


@pytest.fixture
def odd(make):
    return make(41)


def mixed_by_hand(images, order, mixing, view_seed, epoch, **settings):
    """Every image mixed with its neighbour, one at a time, from the batches of a loader that does not mix."""
    plain, labels = joined(DeviceLoader(images, 7, AUGMENT, seed=3, view_seed=view_seed, **settings), epoch)
    mixes = mixing.draw(len(images), 8, 8, Address(view_seed, epoch))
    mixed, soft = plain.clone(), torch.zeros(len(images), 4)
    for place, number in enumerate(order):
        last_of_odd = place == len(order) - 1 and place % 2 == 0
        other = order[place - 1] if place % 2 or last_of_odd else order[place + 1]
        share = mixes.share[number]
        if mixes.cut[number]:
            row, column = mixes.centre[number].tolist()
            half = int(8 * (1 - share).sqrt()) // 2
            hole = torch.zeros(8, 8, dtype=torch.bool)
            hole[max(row - half, 0) : row + half, max(column - half, 0) : column + half] = True
            mixed[number] = torch.where(hole, plain[other], plain[number])
            share = 1 - hole.float().mean()
        else:
            mixed[number] = share * plain[number] + (1 - share) * plain[other]
        soft[number] = share * F.one_hot(labels[number], 4) + (1 - share) * F.one_hot(labels[other], 4)
    return mixed, soft


@pytest.mark.parametrize("mixing", [Mixing(mixup=0.4), Mixing(cutmix=1.0), BOTH], ids=str)
def test_each_image_is_mixed_with_its_neighbour_in_the_order(odd, mixing):
    order = torch.cat([batch.index for batch in DeviceLoader(odd, 7, seed=3).epoch(2)]).tolist()
    loader = DeviceLoader(odd, 7, AUGMENT, seed=3, view_seed=5, mixing=mixing)
    assert torch.cat([batch.index for batch in loader.epoch(2)]).tolist() == order
    expected = mixed_by_hand(odd, order, mixing, view_seed=5, epoch=2)
    for got, wanted in zip(joined(loader), expected, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("count", [40, 41])
def test_mixtures_do_not_depend_on_the_batch_size(make, count):
    sizes = [DeviceLoader(make(count), size, AUGMENT, seed=3, mixing=BOTH) for size in (count, 16, 7, 1)]
    for loader in sizes[1:]:
        same(joined(loader), joined(sizes[0]))


@pytest.mark.parametrize("drop_last", [False, True])
def test_a_run_that_starts_at_a_step_sees_the_same(odd, drop_last):
    def start(step):
        return list(DeviceLoader(odd, 7, AUGMENT, seed=3, mixing=BOTH, drop_last=drop_last).epoch(2, step))

    whole = start(0)
    for step in range(len(whole) + 1):
        for got, expected in zip(start(step), whole[step:], strict=True):
            same([got.inputs, got.labels, got.index], [expected.inputs, expected.labels, expected.index])


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_shares_are_slices_of_the_whole_batches(odd, parts):
    whole = list(DeviceLoader(odd, 9, AUGMENT, seed=3, mixing=BOTH).epoch(1))
    shares = [DeviceLoader(odd, 9, AUGMENT, seed=3, mixing=BOTH, share=(n, parts)).epoch(1) for n in range(parts)]
    for batch, *pieces in zip(whole, *shares, strict=True):
        assert torch.equal(torch.cat([one.inputs for one in pieces]), batch.inputs)
        assert torch.equal(torch.cat([one.labels for one in pieces]), batch.labels)


@pytest.mark.parametrize(
    ("size", "share", "extra"),
    [(8, (0, 1), [0] * 5), (7, (0, 1), [1] * 6), (10, (1, 3), [1, 1, 1, 2]), (9, (1, 3), [1, 1, 1, 1, 2])],
)
def test_a_step_reads_at_most_two_images_more(odd, monkeypatch, size, share, extra):
    loader = DeviceLoader(odd, size, seed=3, mixing=BOTH, share=share)
    read, pixels = [], loader._pixels
    monkeypatch.setattr(loader, "_pixels", lambda wanted: read.extend(wanted) or pixels(wanted))
    rows = [len(batch) for batch in loader.epoch(0)]
    assert [len(numbers) - count for numbers, count in zip(read, rows, strict=True)] == extra


def test_partners_of_another_kind_stay_behind():
    one = reading(torch.tensor([4, 1, 12]), torch.tensor([2, 4, 11]), labelled=10)
    assert one.numbers.tolist() == [2, 4, 1, 12, 11]
    assert one.numbers[one.own].tolist() == [4, 1, 12]
    assert one.numbers[one.partners].tolist() == [2, 4, 11]


def test_all_views_are_mixed_alike(make):
    """Black and white pairs show the share of each, whatever the view."""
    black = torch.zeros_like(make(20).images)
    images = ImageSet(
        torch.cat([black, black + 255]), torch.tensor([0] * 20 + [1] * 20), ("b", "w"), "bw", (0.0,) * 3, (1.0,) * 3
    )
    views = {"strong": Augment(flip=True, resized_crop=True)}
    weak, labels, strong = joined(DeviceLoader(images, 8, seed=1, mixing=BOTH, views=views))
    assert ((labels[:, 1] > 0) & (labels[:, 1] < 1)).any()
    torch.testing.assert_close(weak, strong)
    torch.testing.assert_close(weak.mean((1, 2, 3)), labels[:, 1])


def test_a_view_changes_no_other(images):
    alone, both = (DeviceLoader(images, 8, AUGMENT, mixing=BOTH, views=views) for views in (None, {"strong": STRONG}))
    same(joined(alone), joined(both)[:2])


def test_the_order_follows_from_the_seed_and_the_shares_from_that_of_the_views(images):
    def labels(seed, view_seed):
        return joined(DeviceLoader(images, 8, seed=seed, view_seed=view_seed, mixing=Mixing(mixup=1.0)))[1]

    first, other_order, other_shares = labels(0, 7), labels(1, 7), labels(0, 8)
    assert torch.equal(first > 0, other_shares > 0)
    assert not torch.equal(first, other_shares)
    assert not torch.equal(first > 0, other_order > 0)


def test_channels_last_changes_the_layout_alone(images):
    plain, last = (
        next(DeviceLoader(images, 8, AUGMENT, channels_last=flag, mixing=BOTH).epoch(0)) for flag in (False, True)
    )
    assert plain.inputs.is_contiguous()
    assert last.inputs.is_contiguous(memory_format=torch.channels_last)
    same([plain.inputs, plain.labels], [last.inputs, last.labels])


def test_global_randomness_is_neither_used_nor_moved(images):
    before = torch.get_rng_state()
    first = joined(DeviceLoader(images, 8, AUGMENT, mixing=BOTH))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    same(first, joined(DeviceLoader(images, 8, AUGMENT, mixing=BOTH)))


def test_a_single_image_is_mixed_with_itself(make):
    one = make(1)
    batch = next(DeviceLoader(one, 1, mixing=BOTH).epoch(0))
    torch.testing.assert_close(batch.inputs, next(DeviceLoader(one, 1).epoch(0)).inputs)
    torch.testing.assert_close(batch.labels, torch.tensor([[1.0, 0, 0, 0]]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_sees_the_same_mixtures(odd):
    settings = {"augment": AUGMENT, "seed": 3, "mixing": BOTH}
    on_gpu = DeviceLoader(odd, 7, device="cuda", **settings).epoch(1)
    for got, expected in zip(on_gpu, DeviceLoader(odd, 7, **settings).epoch(1), strict=True):
        torch.testing.assert_close(got.inputs.cpu(), expected.inputs)
        torch.testing.assert_close(got.labels.cpu(), expected.labels)
