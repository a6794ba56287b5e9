import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from attar.data import Augment, DeviceLoader, FileSet, Mixing, StreamingLoader, eval_batches, load_data, loader_for
from attar.data.file_set import file_set, into_memory
from attar.errors import AttarError

AUGMENT = Augment(crop_padding=2, flip=True, cutout=3)
STRONG = Augment(resized_crop=True, flip=True, rand_augment=2)
# A machine with one core is warned that two processes are many.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create", "ignore:.*use of fork:DeprecationWarning")


@pytest.fixture
def photographs_on_disk(tmp_path):
    """24 JPEG and PNG files of 4 classes, of several sizes."""
    random = np.random.default_rng(0)
    names = []
    for number in range(24):
        coarse = random.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((40 + number, 50 - number), Image.Resampling.BICUBIC)
        names.append(f"{number:02d}.{'jpg' if number % 3 else 'png'}")
        image.save(tmp_path / names[-1])
    return tmp_path, names


@pytest.fixture
def files(photographs_on_disk):
    root, names = photographs_on_disk
    return file_set(root, names, torch.arange(24) % 4, tuple("abcd"), "files", size=16, crop=12)


def same(batches, others):
    for one, other in zip(batches, others, strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.index, other.index)
        assert one.address == other.address
        assert one.views.keys() == other.views.keys()
        assert all(torch.equal(one.views[name], other.views[name]) for name in one.views)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("channels_last", [False, True])
def test_batches_are_those_of_the_set_in_memory(files, workers, channels_last):
    held, _ = into_memory(files, skip=False)
    settings = {"augment": AUGMENT, "seed": 3, "channels_last": channels_last, "views": {"strong": STRONG}}
    streamed = StreamingLoader(files, 5, **settings, workers=workers)
    memory = DeviceLoader(held, 5, **settings)
    assert len(streamed) == len(memory) == 5
    for epoch in (0, 1):
        same(streamed.epoch(epoch), memory.epoch(epoch))


MIXING = Mixing(mixup=1.0, cutmix=1.0)


@pytest.mark.parametrize(("channels_last", "repeats"), [(False, 1), (True, 3)])
def test_mixed_batches_are_those_of_the_set_in_memory(files, channels_last, repeats):
    held, _ = into_memory(files, skip=False)
    settings = {"augment": AUGMENT, "seed": 3, "channels_last": channels_last, "views": {"strong": STRONG}}
    settings["repeats"] = repeats
    streamed = StreamingLoader(files, 5, **settings, mixing=MIXING, workers=2)
    memory = DeviceLoader(held, 5, **settings, mixing=MIXING)
    for epoch, step in ((0, 0), (1, 2)):
        same(streamed.epoch(epoch, step), memory.epoch(epoch, step))


def test_mixing_is_not_for_evaluation(files):
    with pytest.raises(AttarError, match="images are mixed in training, which stand_ins=False is not for"):
        StreamingLoader(files, 5, mixing=MIXING, stand_ins=False)


def test_a_run_that_starts_at_a_step_sees_the_same(files):
    whole = list(StreamingLoader(files, 5, AUGMENT, workers=0).epoch(1))
    loader = StreamingLoader(files, 5, AUGMENT, workers=2)
    # An epoch that is given up leaves the processes in the middle of their work.
    next(loader.epoch(0))
    same(loader.epoch(1, 3), whole[3:])
    same(loader.epoch(1), whole)


def test_epochs_may_overlap(files):
    loader = StreamingLoader(files, 5, workers=1)
    pairs = list(zip(loader.epoch(0), loader.epoch(1), strict=True))
    same([one for one, _ in pairs], DeviceLoader(into_memory(files, False)[0], 5).epoch(0))
    same([other for _, other in pairs], DeviceLoader(into_memory(files, False)[0], 5).epoch(1))


def test_processes_may_be_spawned(files, monkeypatch):
    loader = StreamingLoader(files, 12, workers=1)
    pool = loader._pool()
    pool.multiprocessing_context = "spawn"
    monkeypatch.setattr(loader, "_pool", lambda: pool)
    same(loader.epoch(0), StreamingLoader(files, 12, workers=0).epoch(0))


def test_global_randomness_is_neither_used_nor_moved(files):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(StreamingLoader(files, 5, AUGMENT, workers=1).epoch(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_loader_follows_from_the_set(files, images):
    assert type(loader_for(images, 8)) is DeviceLoader
    assert type(loader_for(replace(files, workers=0), 8)) is StreamingLoader
    assert loader_for(replace(files, workers=3), 8).workers == 3


def test_evaluation_sees_the_centre(files):
    batches = list(eval_batches(replace(files, workers=0), 10))
    assert [len(batch) for batch in batches] == [10, 10, 4]
    pixels = into_memory(files, False)[0].images[:, :, 2:14, 2:14].float() / 255
    expected = (pixels - torch.tensor(files.mean)[:, None, None]) / torch.tensor(files.std)[:, None, None]
    torch.testing.assert_close(torch.cat([batch.inputs for batch in batches]), expected)


def test_a_set_of_files_has_no_pixels_to_be_taken_for_black_ones(files):
    assert files.image_shape == (3, 12, 12)
    with pytest.raises(NotImplementedError, match="no data"):
        next(DeviceLoader(files, 4).epoch(0))


def test_parts_of_a_set_keep_their_files(files):
    part = files.subset(torch.tensor([7, 2]))
    assert [part.path(number).name for number in range(2)] == ["07.jpg", "02.jpg"]
    assert part.labels.tolist() == [3, 2]
    assert len({part.fingerprint, files.fingerprint, files.resized(6).fingerprint}) == 3
    assert pickle.loads(pickle.dumps(part)).fingerprint == part.fingerprint


def test_another_size_is_read_at_that_size(files):
    small = files.resized(6)
    assert small.image_shape == (3, 6, 6)
    assert small.stored_size == (8, 8)
    assert next(StreamingLoader(small, 4, workers=0).epoch(0)).inputs.shape == (4, 3, 6, 6)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_stood_in_for_and_named_once(files, workers):
    files.path(5).write_bytes(b"no image")
    loader = StreamingLoader(files, 6, workers=workers, shuffle=False)
    with pytest.warns(UserWarning, match=r"05\.jpg .*next of class '\w+' stands in") as caught:
        batches = [batch for epoch in (0, 1) for batch in loader.epoch(epoch)]
    assert len(caught) == 1
    assert list(loader.unreadable) == [5]
    found = torch.cat([batch.inputs for batch in batches[:4]])
    assert torch.equal(found[5], found[9])
    assert not torch.equal(found[5], found[6])


def test_an_unreadable_image_is_left_out_of_evaluation(files):
    files.path(5).write_bytes(b"no image")
    with pytest.warns(UserWarning, match="it is left out"):
        batches = list(eval_batches(replace(files, workers=0), 5))
    assert torch.cat([batch.index for batch in batches]).tolist() == [n for n in range(24) if n != 5]
    assert torch.cat([batch.labels for batch in batches]).tolist() == [n % 4 for n in range(24) if n != 5]


@pytest.mark.filterwarnings("ignore:cannot read image")
@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_unreadable_images_are_refused(files, workers):
    for number in (3, 5):
        files.path(number).write_bytes(b"no image")
    with pytest.raises(AttarError, match=r"more than 1% of the 24 images .* first .*03\.png, .*05\.jpg") as caught:
        list(StreamingLoader(files, 24, workers=workers, shuffle=False).epoch(0))
    assert "\n" not in str(caught.value)


def test_a_class_without_a_readable_image_is_refused(files):
    alone = files.subset(torch.tensor([0, 4, 5]))
    alone.path(2).write_bytes(b"no image")
    with pytest.raises(AttarError, match=r"no image of class 'b' can be read"):
        list(StreamingLoader(alone, 3, workers=0).epoch(0))


def test_folders_and_memory_give_the_same_run(photographs_on_disk):
    root, names = photographs_on_disk
    for number, name in enumerate(names):
        (root / "tree" / "abcd"[number % 4]).mkdir(parents=True, exist_ok=True)
        (root / name).rename(root / "tree" / "abcd"[number % 4] / name)
    settings = {"root": root / "tree", "image_size": 12, "resize_size": 16, "train_size": 12, "val_fraction": 0.2}
    memory = load_data("folder", **settings, in_memory=True)
    streamed = load_data("folder", **settings, in_memory=False, workers=0)
    assert isinstance(streamed.train, FileSet)
    assert streamed.image_shape == memory.image_shape == (3, 12, 12)
    for role in ("train", "val", "test"):
        one, other = getattr(streamed, role), getattr(memory, role)
        same(eval_batches(one, 4), eval_batches(other, 4))
    same(loader_for(streamed.train, 5, augment=STRONG).epoch(2), loader_for(memory.train, 5, augment=STRONG).epoch(2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resize_size": 8}, "resize_size=8 must be at least image_size=12"),
        ({"workers": -1}, "workers must be 0"),
        ({"in_memry": True}, "did you mean 'in_memory'"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, settings, message):
    with pytest.raises(AttarError, match=message):
        load_data("folder", root=tmp_path, image_size=12, **settings)
