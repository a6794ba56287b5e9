import numpy as np
import pytest
import torch

from attar.batch import Address
from attar.data import Augment
from attar.data.transforms.augment import crop_and_flip, cut_out_, draw, normalise
from attar.errors import AttarError

IMAGES = torch.randint(256, (50, 3, 10, 12), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def one_by_one(images, augment, moves):
    """What a per-sample pipeline does: pad, slice, mirror."""
    p, (height, width) = augment.crop_padding, images.shape[2:]
    mode = {"zero": "constant", "reflect": "reflect"}[augment.padding_mode]
    result = []
    for i, image in enumerate(images.numpy()):
        padded = np.pad(image, ((0, 0), (p, p), (p, p)), mode=mode)
        top, left = int(moves.top[i]), int(moves.left[i])
        window = padded[:, top : top + height, left : left + width]
        result.append(window[:, :, ::-1] if augment.flip and moves.flip[i] else window)
    return torch.from_numpy(np.stack(result))


@pytest.mark.parametrize("mode", ["zero", "reflect"])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_batched_equals_one_by_one(mode, flip, padding, dtype):
    augment, images = Augment(padding, mode, flip), IMAGES.to(dtype)
    moves = draw(augment, 50, 10, 12, Address(seed=1))
    assert torch.equal(crop_and_flip(images, augment, moves), one_by_one(images, augment, moves))


def test_holes_equal_one_by_one():
    images = torch.randn(50, 3, 10, 12)
    moves = draw(Augment(cutout=5), 50, 10, 12, Address(seed=1))
    expected = images.clone()
    for i in range(50):
        row, column = int(moves.row[i]), int(moves.column[i])
        expected[i, :, max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3] = 0
    assert torch.equal(cut_out_(images, 5, moves), expected)


def test_normalise_is_to_tensor_and_normalise():
    mean, std = torch.tensor([0.5, 0.4, 0.3])[:, None, None], torch.tensor([0.2, 0.3, 0.1])[:, None, None]
    result = normalise(IMAGES, 255 * mean, 255 * std)
    torch.testing.assert_close(result, (IMAGES.float() / 255 - mean) / std)
    last = normalise(IMAGES, 255 * mean, 255 * std, channels_last=True)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last, result)


def test_choices_cover_their_range():
    moves = draw(Augment(crop_padding=2), 2000, 8, 6, Address())
    assert moves.top.unique().tolist() == moves.left.unique().tolist() == [0, 1, 2, 3, 4]
    assert moves.row.unique().tolist() == list(range(8))
    assert moves.column.unique().tolist() == list(range(6))
    assert 0.45 < moves.flip.float().mean() < 0.55


def test_choices_are_independent_of_one_another():
    plain, flipped = (draw(Augment(crop_padding=4, flip=flip), 20, 8, 8, Address()) for flip in (False, True))
    assert torch.equal(plain.top, flipped.top)
    assert not torch.equal(plain.top, plain.left)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"padding_mode": "refelct"}, "did you mean 'reflect'"),
        ({"crop_padding": -1}, "whole number of pixels"),
        ({"cutout": 1.5}, "whole number of pixels"),
        ({"flip": "yes"}, "true, false or alternate"),
        ({"crop_paddin": 1}, "did you mean 'crop_padding'"),
        ({"rand_augment": True}, "whole number of changes"),
        ({"magnitude": 31}, "from 0 to 30"),
        ({"resized_crop": 1}, "true or false"),
        ({"scale": [0.5, 1.2]}, "two numbers above 0 up to 1"),
        ({"scale": [0.5, 0.2]}, "the smaller first"),
        ({"ratio": 1.0}, "two numbers above 0"),
        ({"ratio": [0, 1]}, "two numbers above 0"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(AttarError, match=message):
        Augment().changed(settings)


def test_lists_become_pairs():
    assert Augment().changed({"scale": [0.2, 1]}).scale == (0.2, 1.0)


@pytest.mark.parametrize("mode", ["zero", "reflect"])
def test_the_memory_format_changes_nothing_but_itself(mode):
    augment = Augment(4, mode, flip=True)
    moves = draw(augment, 50, 10, 12, Address(seed=1))
    last = crop_and_flip(IMAGES.contiguous(memory_format=torch.channels_last), augment, moves)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last, crop_and_flip(IMAGES, augment, moves))


def test_choices_are_the_same_for_ever():
    # Resumed runs and caches of a teacher's answers rely on these very numbers.
    address = Address(seed=1, epoch=2)
    strong = draw(Augment(4, flip=True, resized_crop=True, rand_augment=2), 4, 32, 32, address)
    expected = {
        "top": [2, 3, 8, 0],
        "left": [7, 4, 3, 8],
        "flip": [False, False, True, True],
        "row": [31, 24, 4, 5],
        "column": [0, 27, 23, 21],
    }
    for plain in (strong, draw(Augment(4), 4, 32, 32, address)):
        assert {name: getattr(plain, name).tolist() for name in expected} == expected
    assert strong.box.tolist() == [[1, 2, 25, 29], [19, 10, 11, 10], [0, 3, 26, 28], [0, 6, 32, 26]]
    assert strong.changes.tolist() == [[7, 4], [1, 2], [7, 1], [3, 9]]
    assert strong.signs.tolist() == [[1, 1], [1, 1], [-1, -1], [-1, 1]]


def test_alternating_flips_mirror_each_image_in_every_second_epoch():
    epochs = [draw(Augment(flip="alternate"), 400, 8, 8, Address(3, epoch)).flip for epoch in range(4)]
    assert torch.equal(epochs[0], epochs[2])
    assert torch.equal(epochs[1], ~epochs[0])
    assert torch.equal(epochs[3], epochs[1])
    assert 150 < int(epochs[0].sum()) < 250


def test_alternating_flips_move_no_crop():
    usual, alternate = (draw(Augment(2, flip=flip), 50, 8, 8, Address(3, 1)) for flip in (True, "alternate"))
    assert torch.equal(usual.top, alternate.top)
    assert torch.equal(usual.left, alternate.left)


def test_a_flip_that_does_not_exist():
    with pytest.raises(AttarError, match=r"augment.flip must be true, false or alternate, got 'both'"):
        Augment(flip="both")
