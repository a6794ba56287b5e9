import pytest
import torch

from attar.data import limit, stratified_split
from attar.errors import AttarError

LABELS = torch.arange(100) % 10


def test_parts_are_disjoint_sorted_and_complete():
    rest, part = stratified_split(LABELS, 0.3, seed=0)
    assert torch.equal(torch.cat([rest, part]).sort().values, torch.arange(100))
    assert torch.equal(rest, rest.sort().values)
    assert torch.equal(part, part.sort().values)


def test_every_class_keeps_its_share():
    _, part = stratified_split(LABELS, 0.3, seed=0)
    assert LABELS[part].bincount().tolist() == [3] * 10


def test_shares_that_are_no_whole_numbers_still_add_up():
    labels = torch.tensor([0] * 7 + [1] * 7 + [2] * 7)
    _, part = stratified_split(labels, 0.25, seed=0)
    assert len(part) == round(0.25 * 21)
    assert labels[part].bincount().max() == 2


def test_the_seed_decides():
    same, other = (stratified_split(LABELS, 0.3, seed)[1] for seed in (0, 1))
    assert torch.equal(same, stratified_split(LABELS, 0.3, 0)[1])
    assert not torch.equal(same, other)


def test_a_class_keeps_at_least_one():
    rest, _ = stratified_split(torch.tensor([0] * 9 + [1]), 0.9, seed=0)
    assert 9 in rest.tolist()
    assert len(rest) == 2


def test_fraction_zero_splits_nothing():
    rest, part = stratified_split(LABELS, 0.0, seed=0)
    assert len(rest) == 100
    assert len(part) == 0


def test_a_class_without_images_is_no_trouble():
    rest, part = stratified_split(torch.tensor([0, 0, 3, 3]), 0.5, seed=0)
    assert len(rest) == len(part) == 2


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(AttarError, match=r"in \[0, 1\)"):
        stratified_split(LABELS, fraction, seed=0)


def test_a_fraction_that_gives_nothing_is_refused():
    with pytest.raises(AttarError, match=r"0.01 of 10 images is none"):
        stratified_split(torch.arange(10) % 2, 0.01, seed=0)


def test_limit_is_stratified_and_exact(make):
    few = limit(make(count=40, classes=4), 10, seed=0)
    assert len(few) == 10
    assert set(few.labels.bincount().tolist()) == {2, 3}


def test_limit_keeps_rare_classes(make):
    images = make(count=40, classes=2)
    images.labels[:] = 0
    images.labels[7] = 1
    assert limit(images, 3, seed=0).labels.tolist().count(1) == 1


@pytest.mark.parametrize("count", [3, 41])
def test_limit_out_of_range_is_refused(make, count):
    with pytest.raises(AttarError, match="train_size must be 4"):
        limit(make(count=40, classes=4), count, seed=0)
