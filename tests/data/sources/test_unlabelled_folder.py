"""Images without labels: how they are read, and how they join the batches."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from attar.data import Augment, DeviceLoader, Mixing, Splits, StreamingLoader, load_data, loader_for
from attar.data.file_set import FileSet
from attar.data.sources import from_files
from attar.data.sources import unlabelled_folder as unlabelled
from attar.errors import AttarError

AUGMENT = Augment(crop_padding=2, flip=True, cutout=3)
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create", "ignore:.*use of fork:DeprecationWarning")


def nameless(images):
    """The same images without their labels."""
    return replace(images, labels=torch.full((len(images),), -1), name="nameless")


@pytest.fixture
def more(make):
    return nameless(make(25, seed=1))


def joint(images, more, size=12, **settings):
    return DeviceLoader(images, size, AUGMENT, seed=3, unlabelled=more, **settings)


def test_the_labelled_rows_are_those_of_a_loader_without_the_others(images, more):
    alone, both = DeviceLoader(images, 12, AUGMENT, seed=3), joint(images, more, unlabelled_batch=5)
    assert len(alone) == len(both) == 4
    for epoch in (0, 2):
        for one, other in zip(alone.epoch(epoch), both.epoch(epoch), strict=True):
            assert one.labelled is None
            assert other.labelled == len(one)
            assert len(other) == len(one) + 5
            for part in ("inputs", "labels", "index"):
                assert torch.equal(getattr(one, part), getattr(other, part)[: other.labelled])


def test_unlabelled_rows_are_their_images_without_labels(images, more):
    batch = next(DeviceLoader(images, 12, unlabelled=more).epoch(0))
    rows = slice(batch.labelled, None)
    assert (batch.labels[rows] == -1).all()
    expected = (more.images[batch.index[rows] - len(images)] / 255 - 0.5) / 0.25
    assert torch.allclose(batch.inputs[rows], expected, atol=1e-6)


def test_they_are_varied_in_their_own_way(images):
    loader = DeviceLoader(images, 40, AUGMENT, shuffle=False, unlabelled=nameless(images))
    labelled, others = next(loader.epoch(0)).inputs.chunk(2)
    assert not torch.equal(labelled, others)


def test_passes_over_the_unlabelled_images_span_epochs(images, more):
    loader = joint(images, more, unlabelled_batch=10)
    seen = [batch.index[batch.labelled :] - 40 for epoch in range(5) for batch in loader.epoch(epoch)]
    passes = torch.cat(seen).split(25)
    assert len(passes) == 8
    assert all(torch.equal(one.sort().values, torch.arange(25)) for one in passes)
    assert not torch.equal(passes[0], passes[1])


@pytest.mark.parametrize("drop_last", [False, True])
def test_a_run_that_starts_at_a_step_sees_the_same(images, more, drop_last):
    whole = list(joint(images, more, 7, drop_last=drop_last).epoch(2))
    assert [batch.labelled for batch in whole] == [7] * 5 + [5] * (not drop_last)
    assert all(torch.equal(batch.labels < 0, torch.arange(len(batch)) >= batch.labelled) for batch in whole)
    for step in range(len(whole)):
        for got, expected in zip(joint(images, more, 7, drop_last=drop_last).epoch(2, step), whole[step:], strict=True):
            assert torch.equal(got.inputs, expected.inputs)
            assert torch.equal(got.index, expected.index)
            assert got.labelled == expected.labelled


def test_how_many_a_batch_gets(images, more):
    assert joint(images, more, 12).unlabelled_batch == 12
    assert joint(images, more, 40).unlabelled_batch == 25
    assert DeviceLoader(images, 12).unlabelled_batch == 0
    for wrong in (0, 26):
        with pytest.raises(AttarError, match="unlabelled_batch must be 1 to 25, the images of 'nameless', got"):
            joint(images, more, unlabelled_batch=wrong)


def test_several_processes_are_refused(images, more):
    with pytest.raises(AttarError, match="unlabelled images train in one process, not in several"):
        joint(images, more, share=(0, 2))


def test_images_of_another_size_are_refused(images, make):
    with pytest.raises(AttarError, match="are stored otherwise"):
        joint(images, nameless(make(10, shape=(3, 9, 9))))


def test_splits_hold_where_labels_belong(images, more):
    assert Splits(images, images, unlabelled=more).map(lambda one: one.resized(4)).unlabelled.image_shape == (3, 4, 4)
    with pytest.raises(AttarError, match="labels of the unlabelled set must be all -1, got 0"):
        Splits(images, images, unlabelled=images)
    with pytest.raises(AttarError, match="labels of the train set must be class numbers, got -1"):
        Splits(more, images)
    with pytest.raises(AttarError, match="some images have no label"):
        load_data(more)


MIXING = Mixing(mixup=1.0, cutmix=1.0)


@pytest.mark.parametrize("drop_last", [False, True])
def test_mixed_labelled_rows_are_those_of_a_loader_without_the_others(images, more, drop_last):
    settings = {"mixing": MIXING, "drop_last": drop_last}
    alone = DeviceLoader(images, 13, AUGMENT, seed=3, **settings)
    for one, other in zip(alone.epoch(1), joint(images, more, 13, **settings).epoch(1), strict=True):
        assert torch.equal(one.inputs, other.inputs[: other.labelled])
        assert torch.equal(one.labels, other.labels[: other.labelled])
        assert (other.labels[other.labelled :] == 0).all()


def test_they_are_mixed_among_themselves(images, make):
    dark, light = replace(images, images=torch.zeros_like(images.images)), nameless(make(25))
    light = replace(light, images=light.images // 2 + 128)
    loader = DeviceLoader(dark, 7, seed=3, unlabelled=light, mixing=MIXING)
    plain = DeviceLoader(dark, 7, seed=3, unlabelled=light)
    changed = 0
    for epoch in (0, 1, 2):
        for batch, whole in zip(loader.epoch(epoch), plain.epoch(epoch), strict=True):
            assert torch.equal(batch.index, whole.index)
            black, others = batch.inputs[: batch.labelled], batch.inputs[batch.labelled :]
            assert (black == -2).all()
            assert others.min() > 0
            changed += int((others != whole.inputs[batch.labelled :]).any((1, 2, 3)).sum())
    assert changed > 50


def test_a_mixed_run_that_starts_at_a_step_sees_the_same(images, more):
    whole = list(joint(images, more, 7, mixing=MIXING).epoch(2))
    for step in range(len(whole)):
        for got, expected in zip(joint(images, more, 7, mixing=MIXING).epoch(2, step), whole[step:], strict=True):
            assert torch.equal(got.inputs, expected.inputs)
            assert torch.equal(got.labels, expected.labels)


@pytest.fixture
def folders(tmp_path):
    """20 labelled files of 2 classes of which 4 are for the test, and 7 unlabelled ones in folders of any depth."""
    for number in range(27):
        place = ("cats", "dogs")[number % 2] if number < 20 else ("", "a", "a/b c")[number % 3]
        file = tmp_path / ("labelled" if number < 20 else "more") / place / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new(
            "RGB" if number % 4 else "L", (20 + number, 18), 9 * number if not number % 4 else (number, 0, 0)
        ).save(file)
    (tmp_path / "more" / "notes.txt").write_text("no image")
    return tmp_path


def load(folders, **options):
    keys = {"image_size": 8, "val_fraction": 0.0, "mean": [0.4] * 3, **options}
    return load_data(folders / "labelled", unlabelled=folders / "more", **keys)


def test_a_folder_of_any_layout(folders):
    splits, without = load(folders), load_data(folders / "labelled", image_size=8, val_fraction=0, mean=[0.4] * 3)
    assert len(splits.unlabelled) == 7
    assert splits.unlabelled.mean == (0.4,) * 3
    assert splits.unlabelled.images.dtype == torch.uint8
    assert [one.fingerprint for one in (splits.train, splits.test)] == [
        one.fingerprint for one in (without.train, without.test)
    ]
    reds = sorted(splits.unlabelled.images[:, 0, 0, 0].tolist())
    assert reds == sorted(number if number % 4 else 9 * number for number in range(20, 27))


@pytest.mark.parametrize("mixing", [None, MIXING], ids=str)
def test_streamed_batches_are_those_in_memory(folders, mixing):
    options = {"resize_size": 10, "class_weights": "balanced", "train_size": 10}
    held, files = load(folders, **options), load(folders, in_memory=False, workers=0, **options)
    assert isinstance(files.unlabelled, FileSet)
    memory, streamed = (
        loader_for(one.train, 4, augment=AUGMENT, seed=1, unlabelled=one.unlabelled, mixing=mixing)
        for one in (held, files)
    )
    assert isinstance(streamed, StreamingLoader)
    for epoch in (0, 1):
        for one, other in zip(memory.epoch(epoch), streamed.epoch(epoch), strict=True):
            assert torch.equal(one.inputs, other.inputs)
            assert torch.equal(one.labels, other.labels)
            assert one.labelled == other.labelled == min(4, one.labelled)


def test_a_broken_image_in_memory(folders):
    (folders / "more" / "a" / "broken.png").write_bytes(b"no PNG")
    with pytest.raises(
        AttarError, match=r"cannot read image .*more/a/broken\.png .* or give data\.skip_unreadable=true"
    ):
        load(folders)
    splits = load(folders, skip_unreadable=True)
    assert len(splits.unlabelled) == 7
    assert splits.notes[-1].startswith("skipped 1 unreadable images of 'more', first ")
    assert splits.notes[-1].endswith("broken.png")


def test_a_broken_image_that_is_streamed_is_stood_in_for_by_another_without_a_label(folders):
    (folders / "more" / "0.png").write_bytes(b"no PNG")
    splits = load(folders, in_memory=False, workers=0)
    loader = loader_for(splits.train, 8, unlabelled=splits.unlabelled)
    with pytest.warns(UserWarning, match=r"cannot read image .*more/0\.png .*; the next without a label stands in"):
        batch = next(loader.epoch(0))
    rows = {int(number) - len(splits.train): image for number, image in zip(batch.index, batch.inputs, strict=True)}
    assert torch.equal(rows[0], rows[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unlabelled": "nowhere"}, "data.unlabelled='nowhere' is no folder"),
        ({"unlabelled": "empty"}, r"data.unlabelled='empty' has no images \(.jpg"),
        ({"data": "digits", "mean": None}, "read as RGB, the images of 'digits' have 1 channels"),
    ],
)
def test_what_cannot_join_is_refused(folders, monkeypatch, change, message):
    monkeypatch.chdir(folders)
    (folders / "empty").mkdir()
    given = {"data": "labelled", "unlabelled": "more", "image_size": 8, **change}
    with pytest.raises(AttarError, match=message):
        load_data(given.pop("data"), **given)


def test_what_does_not_fit_into_memory_is_refused(folders, monkeypatch):
    monkeypatch.setattr(unlabelled, "MEMORY_LIMIT", 1000)
    with pytest.raises(AttarError, match=r"7 unlabelled images at 8x8 need .*give data.in_memory=false"):
        load(folders)
    monkeypatch.setattr(from_files, "MEMORY_LIMIT", 1000)
    assert isinstance(load(folders).unlabelled, FileSet)
