import numpy as np
import pytest
from PIL import Image

from attar.data import load_data
from attar.data.file_set import FileSet
from attar.data.sources import from_files
from attar.decoding import read_image
from attar.errors import AttarError


def save(file, mode="RGB", size=(20, 16), colour=None, **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour or 0).save(file, **options)


def fill(place, classes=("cat", "dog"), count=10):
    for level, name in enumerate(classes):
        for number in range(count):
            save(place / name / f"{number:02d}.png", colour=(level * 100, number, 0))


@pytest.fixture
def root(tmp_path):
    fill(tmp_path)
    return tmp_path


def test_one_folder_of_classes_is_split(root):
    splits = load_data("folder", root=root)
    assert splits.classes == ("cat", "dog")
    assert splits.image_shape == (3, 64, 64)
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [14, 2, 4]
    assert splits.train.labels.bincount().tolist() == [7, 7]
    assert splits.augment.crop_padding == 8
    assert splits.augment.flip


def test_pixels_and_labels_belong_together(root):
    train = load_data("folder", root=root, image_size=8, val_fraction=0).train
    assert (train.images[:, 0] == 100 * train.labels[:, None, None]).all()


def test_the_test_set_never_depends_on_the_seed(root):
    one, two = (load_data("folder", root=root, image_size=8, seed=seed) for seed in (0, 1))
    assert one.test.fingerprint == two.test.fingerprint


def test_a_path_is_a_name(root):
    assert load_data(str(root), image_size=8).num_classes == 2
    assert load_data(root, image_size=8).num_classes == 2


@pytest.mark.parametrize(
    ("parts", "sizes"),
    [(("train", "val"), (18, 2, 20)), (("train", "test"), (18, 2, 20)), (("train", "val", "test"), (20, 20, 20))],
)
def test_folders_for_the_parts(tmp_path, parts, sizes):
    for part in parts:
        fill(tmp_path / part)
    splits = load_data("folder", root=tmp_path, image_size=8)
    assert tuple(len(part) for part in (splits.train, splits.val, splits.test)) == sizes


@pytest.mark.parametrize(
    ("mode", "colour", "suffix", "expected"),
    [
        ("L", 90, "png", (90, 90, 90)),
        ("I;16", 90 * 256, "png", (90, 90, 90)),
        ("RGBA", (10, 20, 30, 255), "png", (10, 20, 30)),
        ("LA", (90, 255), "png", (90, 90, 90)),
        ("CMYK", (0, 0, 0, 0), "jpg", (255, 255, 255)),
        ("1", 1, "png", (255, 255, 255)),
    ],
)
def test_every_mode_becomes_rgb(tmp_path, mode, colour, suffix, expected):
    save(tmp_path / f"image.{suffix}", mode, colour=colour)
    pixels = read_image(tmp_path / f"image.{suffix}", 8)
    assert pixels.shape == (8, 8, 3)
    assert pixels.reshape(-1, 3).tolist() == [list(expected)] * 64


@pytest.mark.parametrize("transparency", [None, 0, b"\x00\x80"])
def test_palettes_become_rgb(tmp_path, transparency):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.save(tmp_path / "image.png", **({} if transparency is None else {"transparency": transparency}))
    assert read_image(tmp_path / "image.png", 8)[0, 0].tolist() == [10, 20, 30]


def test_a_turned_photograph_stands_upright(tmp_path):
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, :8] = 255  # white on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: white on top
    Image.fromarray(pixels).save(tmp_path / "image.png", exif=exif)
    upright = read_image(tmp_path / "image.png", 16)
    assert upright[:8].min() == 255
    assert upright[8:].max() == 0


def test_the_centre_is_cut_out(tmp_path):
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 255
    Image.fromarray(pixels).save(tmp_path / "image.png")
    assert read_image(tmp_path / "image.png", 10).min() == 255


def truncate(file):
    file.write_bytes(file.read_bytes()[:-40])


def test_an_unreadable_image_is_named(root):
    save(root / "dog" / "zz.jpg", size=(64, 64), colour=(1, 2, 3))
    truncate(root / "dog" / "zz.jpg")
    with pytest.raises(AttarError, match=r"cannot read image .*zz\.jpg .*skip_unreadable") as caught:
        load_data("folder", root=root)
    assert "\n" not in str(caught.value)


def test_all_unreadable_images_are_counted_at_once(root):
    (root / "cat" / "00.png").write_bytes(b"no image")
    (root / "dog" / "zz.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(AttarError) as caught:
        load_data("folder", root=root)
    assert str(caught.value) == (
        f"cannot read image {root / 'cat' / '00.png'} (cannot identify image file) and 1 more of 21; mend or remove "
        "them, or give data.skip_unreadable=true"
    )
    (root / "cat" / "00.png").unlink()
    with pytest.raises(AttarError, match=r"zz\.jpg \(No such file or directory\)"):
        load_data("folder", root=root)


def test_unreadable_images_are_skipped_when_asked(root):
    (root / "cat" / "00.png").write_bytes(b"no image")
    splits = load_data("folder", root=root, image_size=8, skip_unreadable=True, val_fraction=0)
    assert len(splits.train) + len(splits.test) == 19
    assert len(splits.notes) == 1
    assert "skipped 1 unreadable images" in splits.notes[0]
    assert "00.png" in splits.notes[0]
    train = splits.train
    assert (train.images[:, 0] == 100 * train.labels[:, None, None]).all()


def test_a_class_with_nothing_readable_is_refused(root):
    for file in (root / "cat").iterdir():
        file.write_bytes(b"no image")
    with pytest.raises(AttarError, match="no image of class 'cat'"):
        load_data("folder", root=root, skip_unreadable=True)


def test_one_class_is_refused(tmp_path):
    fill(tmp_path, classes=("cat",))
    with pytest.raises(AttarError, match=r"has 1 class folder with images \(.*\); expected at least 2"):
        load_data("folder", root=tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(AttarError, match="is no folder"):
        load_data("folder", root=tmp_path / "none")
    with pytest.raises(AttarError, match=r"give data\.root="):
        load_data("folder")


def test_too_much_for_the_memory_names_a_size_that_fits(root, monkeypatch):
    monkeypatch.setattr(from_files, "MEMORY_LIMIT", 20 * 3 * 10**2)
    with pytest.raises(AttarError, match="=10 or smaller"):
        load_data("folder", root=root, in_memory=True)
    assert not isinstance(load_data("folder", root=root, image_size=10).train, FileSet)
    assert isinstance(load_data("folder", root=root, image_size=11).train, FileSet)


def test_hidden_files_and_folders_are_passed_over(root):
    (root / ".cache").mkdir()
    (root / "cat" / "._00.png").write_bytes(b"junk")
    assert load_data("folder", root=root, image_size=8).classes == ("cat", "dog")


def test_without_pillow_the_extra_is_named(root, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(AttarError, match=r"install 'attar\[vision\]'"):
        load_data("folder", root=root)
