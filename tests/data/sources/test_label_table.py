"""Images with several labels each: tables of them, and what every part of the data room makes of them."""

import pytest
import torch
from PIL import Image

from attar.data import ImageSet, Mixing, Splits, load_data, loader_for
from attar.data.loading.split import limit, split_off
from attar.data.overview import split_lines
from attar.errors import AttarError
from attar.report.contact_sheet import contact_sheet


@pytest.fixture
def table(tmp_path):
    """Writes a table beside twelve images; image n is 10 n bright."""
    (tmp_path / "pictures").mkdir()
    for number in range(12):
        Image.new("RGB", (10, 8), (10 * number,) * 3).save(tmp_path / "pictures" / f"{number:02d}.png")

    def write(*lines):
        file = tmp_path / "table.csv"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return file

    return write


def expected(numbers):
    """Image n is even or odd, or both if it divides by 3; image 11 is nothing."""
    return torch.tensor([[n % 2 == 0 or n % 3 == 0, n < 11 and (n % 2 == 1 or n % 3 == 0)] for n in numbers])


def names(number):
    return [name for name, has in zip(("even", "odd"), expected([number])[0], strict=True) if has]


def in_one_column(roles=False):
    ends = [",val" if n > 8 else "," for n in range(12)] if roles else [""] * 12
    lines = [f"pictures/{n:02d}.png,{'; '.join(names(n))}{end}" for n, end in enumerate(ends)]
    return ["path,labels" + ",split" * roles, *lines]


def in_columns():
    marks = [",".join(str(int(has)) for has in expected([n])[0]) for n in range(12)]
    return ["path,even,odd", *(f"pictures/{n:02d}.png,{row}" for n, row in enumerate(marks))]


def load(file, **options):
    return load_data("label_table", root=file, image_size=8, val_fraction=0, **options)


def numbers(images):
    return (images.images[:, 0, 4, 4] // 10).tolist()


@pytest.mark.parametrize("lines", [in_one_column(), in_columns()])
def test_both_kinds_of_table_give_the_labels(table, lines):
    splits = load(table(*lines))
    assert splits.classes == ("even", "odd")
    assert (len(splits.train), len(splits.test)) == (10, 2)
    for part in (splits.train, splits.test):
        assert torch.equal(part.labels, expected(numbers(part)))
    assert "train: 10 images" in "\n".join(split_lines(splits))
    assert "labels an image" in split_lines(splits)[1]


def test_roles_batches_and_a_sheet_of_streamed_and_held_images(table):
    file = table(*in_one_column(roles=True))
    held, streamed = load(file), load(file, in_memory=False, workers=0)
    assert (len(held.train), held.val, len(held.test)) == (9, None, 3)
    for one, other in ((held.train, streamed.train), (held.test, streamed.test)):
        pairs = zip(*(loader_for(images, 3, seed=4).epoch(1) for images in (one, other)), strict=True)
        assert all(torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels) for a, b in pairs)
    assert contact_sheet(held).shape == contact_sheet(streamed).shape


def test_an_unreadable_image_has_a_stand_in_with_the_same_labels(table, tmp_path):
    file = table(*in_one_column(roles=True))
    (tmp_path / "pictures" / "02.png").write_bytes(b"no image")
    train = load(file, in_memory=False, workers=0).train
    with pytest.warns(UserWarning, match=r"02\.png .*the next with the labels 'even' stands in"):
        batch = next(iter(loader_for(train, 9, shuffle=False).epoch(0)))
    assert torch.equal(batch.images[2], batch.images[4])
    (tmp_path / "pictures" / "09.png").unlink()
    with pytest.raises(AttarError, match=r"there is no file .*09\.png"):
        load(file)


def test_parts_are_drawn_alike():
    labels = torch.arange(40)[:, None] % torch.tensor([2, 3]) == 0
    images = ImageSet(torch.zeros(40, 1, 2, 2).byte(), labels, ("a", "b"), "x", (0.5,), (0.5,), multilabel=True)
    rest, part = split_off(images, 0.25, seed=1)
    assert (len(rest), len(part), len(limit(images, 7, seed=1))) == (30, 10, 7)
    assert not torch.equal(limit(images, 7, seed=1).labels, limit(images, 7, seed=2).labels)
    assert images.class_counts.tolist() == [20, 14]
    with pytest.raises(AttarError, match="must be int64"):
        ImageSet(torch.zeros(40, 1, 2, 2).byte(), labels, ("a", "b"), "x", (0.5,), (0.5,))
    with pytest.raises(AttarError, match=r"must be bool \(40, 3\), one per image and class"):
        ImageSet(torch.zeros(40, 1, 2, 2).byte(), labels, ("a", "b", "c"), "x", (0.5,), (0.5,), multilabel=True)
    with pytest.raises(AttarError, match="mix images of one class each"):
        loader_for(images, 4, mixing=Mixing(mixup=0.2))
    with pytest.raises(AttarError, match="one class an image"):
        load_data(Splits(images, images), class_weights="balanced")


def one_row(line, head="path,labels,split"):
    return [head, *(f"pictures/{n:02d}.png,even,train" for n in range(1, 4)), line]


BAD = {
    "no path": (["file,labels", "pictures/00.png,even"], "no column 'path'.*its first line must name"),
    "no labels": (["path", "pictures/00.png"], "its first line must name"),
    "a further column": (["path,labels,cat", "pictures/00.png,even,1"], "the columns 'labels' and 'cat'"),
    "a mark": (["path,cat", "pictures/00.png,yes"], "line 2: column 'cat' holds 'yes'; give 0 or 1"),
    "empty labels": (["path,labels", "pictures/00.png,", "pictures/01.png,"], "names no label"),
    "a label of the test": (one_row("pictures/00.png,odd,test"), "no training image has the label 'odd'"),
    "a role": (one_row("pictures/00.png,odd,tests"), "split in .*line 5"),
    "a missing file": (one_row("pictures/99.png,odd,test"), r"there is no file .*99\.png"),
    "a file twice": (one_row("pictures/01.png,odd,test"), "is listed in line 2 already"),
    "outside": (one_row("../00.png,odd,test"), "leaves the folder of the table"),
    "no training": (["path,labels,split", "pictures/00.png,even,test"], "has no training images"),
    "no UTF-8": (None, "is no CSV file in UTF-8"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_tables_are_one_line(kind, table):
    lines, message = BAD[kind]
    file = table(*(lines or ["path,labels"]))
    if lines is None:
        file.write_bytes("path,labels\npictures/00.png,é\n".encode("latin-1"))
    with pytest.raises(AttarError, match=message) as error:
        load(file)
    assert "\n" not in str(error.value)
