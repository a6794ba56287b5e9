"""Data sets of the caller's that crop at random: read anew in every epoch, and the same in a resumed run."""

from __future__ import annotations

import io
import random
import signal
import warnings

import numpy as np
import pytest
import torch
from rich.console import Console

import attar
from attar.data import DrawnSet, eval_batches, load_data, loader_for, training_loader
from attar.safety.signals import StopRequest


class Cropped(torch.utils.data.Dataset):
    """Digits, cropped by torch's generator, brightened by NumPy's and mirrored by Python's."""

    classes, alarm = tuple("0123456789"), 0

    def __init__(self, count=60, part="train"):
        images = getattr(load_data("digits"), part)
        self.images, self.labels = images.images[:count], images.labels[:count]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, place):
        if isinstance(signal.getsignal(signal.SIGTERM), StopRequest):  # while it trains
            type(self).alarm -= 1
            if self.alarm == 0:
                signal.raise_signal(signal.SIGTERM)
        top, left = torch.randint(0, 3, (2,)).tolist()
        image = self.images[place, :, top : top + 6, left : left + 6]
        image = (image // 2 + np.random.randint(0, 100)).to(torch.uint8)
        return (image.flip(-1) if random.random() < 0.5 else image), int(self.labels[place])


def linear(num_classes):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, num_classes))


class OwnGenerator(Cropped):
    generator = np.random.default_rng(0)

    def __getitem__(self, place):
        image, label = super().__getitem__(place)
        return (image + self.generator.integers(100)).to(torch.uint8), label


def batches(loader, epoch, start=0):
    return torch.cat([batch.inputs for batch in loader.epoch(epoch, start)])


def test_every_epoch_draws_and_any_step_of_any_epoch_is_the_same_again():
    splits = load_data((Cropped(), Cropped(20, "test")), val_fraction=0.2)
    assert isinstance(splits.train, DrawnSet)
    assert (len(splits.train), len(splits.val), splits.image_shape) == (48, 12, (1, 6, 6))
    assert splits.augment.crop_padding == 0
    assert "training reads them anew in every epoch" in splits.notes[0]
    loader = training_loader(splits, 16, seed=3)
    with pytest.raises(attar.AttarError, match=r"data\.repeats varies images anew"):
        training_loader(splits, 16, repeats=2)
    first = batches(loader, 0)
    assert not torch.equal(first.sort(0).values, batches(loader, 1).sort(0).values)
    torch.manual_seed(9)
    random.seed(9)
    before = torch.rand(1), torch.manual_seed(9)
    assert torch.equal(batches(loader, 0, 1), first[16:])
    assert torch.equal(torch.rand(1), before[0])
    assert torch.equal(first, batches(training_loader(splits, 16, seed=3), 0))
    index = next(iter(loader.epoch(0))).index
    pixels = next(iter(loader.epoch(0))).inputs * splits.train.std[0] + splits.train.mean[0]
    own = torch.stack([splits.train.read(int(one), attar.Address(3, 0)) for one in index])
    torch.testing.assert_close(255 * pixels, own.float(), atol=1e-3, rtol=0)


def test_validation_images_are_those_of_the_first_epoch():
    val = load_data(Cropped(), val_fraction=0.2).val
    one, other = (torch.cat([batch.inputs for batch in eval_batches(val, 5)]) for _ in range(2))
    assert torch.equal(one, other)


@pytest.mark.processes
def test_processes_read_the_same_images():
    alone, several = (load_data(Cropped(), val_fraction=0, workers=workers).train for workers in (0, 1))
    assert several.workers == 1
    assert torch.equal(batches(loader_for(alone, 16), 0), batches(loader_for(several, 16), 0))


def test_a_run_on_random_crops_resumes_exactly_where_a_function_makes_them(tmp_path, monkeypatch):
    values = {
        "student": linear, "data": Cropped, "method": "supervised", "epochs": 2, "batch_size": 16, "alone": "skip",
        "precision": "float32", "jobs": 1,
    }  # fmt: skip

    def train(out):
        return attar.distill(**values, out=str(tmp_path / out), console=Console(file=io.StringIO()))

    whole = train("whole")
    monkeypatch.setattr(Cropped, "alarm", 20)  # in the middle of the first epoch
    with pytest.raises(attar.errors.Stopped):
        train("parted")
    found = attar.resume(tmp_path / "parted", console=Console(quiet=True))
    assert found.student.read_bytes() == whole.student.read_bytes()


def test_a_generator_of_the_data_sets_own_is_warned_of_and_a_set_that_does_not_draw_lies_in_memory():
    with pytest.warns(UserWarning, match="are drawn from a generator of the data set's own"):
        assert isinstance(load_data(OwnGenerator()).train, DrawnSet)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not isinstance(load_data([(torch.zeros(1, 4, 4), 0), (torch.ones(1, 4, 4), 1)] * 10).train, DrawnSet)


class SeldomMirrored(torch.utils.data.Dataset):
    """Images of which each is mirrored in a twentieth of its readings."""

    classes = ("0", "1")

    def __len__(self):
        return 300

    def __getitem__(self, place):
        image = torch.arange(16, dtype=torch.uint8).view(1, 4, 4)
        return (image.flip(-1) if random.random() < 0.05 else image), place % 2


def test_a_set_that_draws_seldom_is_read_anew_whatever_was_drawn_before():
    for seed in range(8):
        random.seed(seed)
        assert isinstance(load_data(SeldomMirrored()).train, DrawnSet)


def test_images_of_another_size_are_one_line():
    with pytest.raises(attar.AttarError, match=r"images of 'custom' are drawn at \(6, 6\); give another size there"):
        load_data(Cropped(), image_size=8)
    with pytest.raises(attar.AttarError, match=r"image 0 of 'custom' has another size at every reading"):
        load_data(Growing())


class Growing(Cropped):
    size = 2

    def __getitem__(self, place):
        self.size += 1
        return torch.zeros(1, self.size, self.size), 0
