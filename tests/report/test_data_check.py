"""`attar check`: the facts of a data set by value, and the contact sheet."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

import attar
from attar.data import ImageSet, Splits, load_data
from attar.data.overview import split_lines
from attar.data.transforms.augment import Augment
from attar.errors import AttarError
from attar.report.contact_sheet import GAP, contact_sheet

pillow = pytest.importorskip("PIL.Image")


@pytest.fixture
def photos(tmp_path):
    """Two classes of 4 and 3 training images and a test image each; one is broken, one is also in the test set."""
    rng = np.random.default_rng(0)
    for split, name, count in (("train", "a", 4), ("train", "b", 3), ("test", "a", 1), ("test", "b", 1)):
        folder = tmp_path / "photos" / split / name
        folder.mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (20 + number, 30, 3), dtype=np.uint8)
            pillow.fromarray(pixels).save(folder / f"{number}.png")
    root = tmp_path / "photos"
    (root / "train" / "a" / "broken.jpg").write_bytes(b"no image")
    shutil.copy(root / "train" / "a" / "1.png", root / "test" / "a" / "again.png")
    shutil.copy(root / "train" / "b" / "0.png", root / "train" / "b" / "twice.png")
    return root


def test_facts_of_a_folder(photos, tmp_path):
    found = attar.check_data(photos, sheet=tmp_path / "sheet.png", image_size=16, val_fraction=0.0)
    assert found.lines == (
        "photos: 16x16 RGB images, 2 classes",
        "train: 9 images, 4 to 5 a class",
        "test: 3 images, 1 to 2 a class",
        "files: 11 PNG; shorter side 20 to 23 pixels, median 21",
        "broken: 1 of 12 files: broken.jpg (cannot identify image file)",
        "broken files stop a training: mend or remove them, or give data.skip_unreadable=true",
        "in two splits: 1 image: train/1.png=test/again.png; scores will be too good",
        "duplicates: 1 image: 0.png=twice.png",
    )
    with pillow.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (4 * (8 * (16 + GAP) - GAP),) * 2
    assert "shorter side 20 to 23" in found._repr_html_()
    settings = {"image_size": 16, "val_fraction": 0.0}
    assert attar.check_data(photos, sheet=None, in_memory=True, **settings).lines == found.lines


def test_validation_images_are_as_many_as_a_run_keeps():
    wanted = split_lines(load_data("digits", val_fraction=attar.Recipe().data.val_fraction))
    assert list(attar.check_data("digits", sheet=None).lines) == wanted


def test_files_of_one_size_have_no_range(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(5):
            pillow.new("RGB", (12, 9), (number, 0, 0)).save(tmp_path / "photos" / name / f"{number}.png")
    lines = attar.check_data(tmp_path / "photos", sheet=None, image_size=8).lines
    assert "files: 10 PNG; shorter side 9 pixels" in lines
    assert lines[-1] == (
        "a run would be refused: data.val_fraction: 0.05 of 8 images is none; give a larger one, or 0 for no split"
    )


def test_a_photograph_on_its_side_counts_upright(tmp_path):
    for name in ("a", "b"):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number in range(5):
            image = pillow.new("RGB", (40, 10), (number, 0, 0))
            exif = image.getexif()
            exif[0x0112] = 6
            image.save(folder / f"{number}.jpg", exif=exif)
    assert set(attar.check_data(tmp_path / "photos", sheet=None, image_size=8).files.sizes) == {(10, 40)}


def test_the_sheet_shows_each_image_beside_its_variations():
    images = torch.arange(4 * 16, dtype=torch.uint8).view(4, 1, 4, 4) * 4
    data = ImageSet(images, torch.tensor([0, 0, 1, 1]), ("a", "b"), "four", (0.5,), (0.5,))
    sheet = contact_sheet(Splits(data, data, augment=Augment(flip="alternate")))
    step = 4 + GAP
    rows = [[sheet[:, r * step : r * step + 4, c * step : c * step + 4] for c in range(8)] for r in range(4)]
    for place, number in enumerate((0, 2, 1, 3)):  # one of each class first
        image = images[number].numpy()
        assert np.array_equal(rows[place][0], image)
        mirrored = [np.array_equal(one, image[:, :, ::-1]) for one in rows[place][1:]]
        assert mirrored in ([False, True] * 3 + [False], [True, False] * 3 + [True])
        assert [np.array_equal(one, image) for one in rows[place][1:]] == [not one for one in mirrored]


def test_all_broken_is_one_line(photos):
    for file in (photos / "train").rglob("*.png"):
        file.write_bytes(b"no image")
    with pytest.raises(AttarError, match="no training image of 'photos' can be read"):
        attar.check_data(photos, sheet=None, image_size=16)


def test_the_sheet_is_a_png(photos):
    with pytest.raises(AttarError, match=r"sheet\.jpg does not end in \.png"):
        attar.check_data(photos, sheet="sheet.jpg")
