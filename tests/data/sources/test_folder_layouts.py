"""What becomes of image folders as people have them: what is recognised, what is noted, what is refused."""

import unicodedata

import pytest
from PIL import Image

from attar.data import load_data
from attar.errors import AttarError

AB = ("ant", "bee")


def put(root, *names):
    """Small files by their names; a folder's name ends in /."""
    for name in names:
        place = root / name
        if name.endswith("/"):
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.suffix.lower() in (".png", ".jpeg"):
            Image.new("RGB", (8, 8), (len(name), 0, 0)).save(place, "PNG" if place.suffix == ".png" else "JPEG")
        else:
            place.write_bytes(b"x")


def some(*folders, classes=AB, count=10, suffix=".png"):
    """Names of images of each class in each of some folders ("" for ROOT)."""
    return [f"{folder}/{kind}/{n}{suffix}".lstrip("/") for folder in folders for kind in classes for n in range(count)]


# layout: the names of its files, and the sizes (train, val, test) with parts of the notes.
READ = {
    "classes": (some(""), (16, None, 4), []),
    "train and val": (some("train", "val"), (20, None, 20), []),
    "train and test": (some("train", "test"), (20, None, 20), []),
    "all three": (some("train", "val", "test"), (20, 20, 20), []),
    "Training and Testing": (some("Training", "Testing"), (20, None, 20), []),
    "Train and Test": (some("Train", "Test"), (20, None, 20), []),
    "TRAIN and VAL": (some("TRAIN", "VAL"), (20, None, 20), []),
    "train and valid": (some("train", "valid"), (20, None, 20), []),
    "train and validation": (some("train", "validation"), (20, None, 20), []),
    "train and Test": (some("train", "Test"), (20, None, 20), []),
    "train and eval": (some("train", "eval"), (20, None, 20), []),
    "train and dev": (some("train", "dev"), (20, None, 20), []),
    "train, valid and test": (some("train", "test") + some("valid", count=3), (20, 6, 20), []),
    "train, Validation and Testing": (some("train", "Testing") + some("Validation", count=3), (20, 6, 20), []),
    "train, eval and test": (some("train", "test") + some("eval", count=3), (20, 6, 20), []),
    "Training Set and Test Set": (some("Training Set", "Test Set"), (20, None, 20), []),
    "train_images and val_images": (some("train_images", "val_images"), (20, None, 20), []),
    "train2017 and val2017": (some("train2017", "val2017"), (20, None, 20), []),
    "seg_train and seg_test": (some("seg_train", "seg_test"), (20, None, 20), []),
    "seg_train twice": (some("seg_train/seg_train", "seg_test/seg_test"), (20, None, 20), []),
    "only train": (some("train"), (16, None, 4), []),
    "splits in classes": (
        [f"{kind}/{part}/{n}.png" for kind in AB for part in ("train", "test") for n in range(5)],
        (10, None, 10),
        ["the classes' own folders are taken for splits"],
    ),
    "splits of other cases in classes": (
        [f"{kind}/{part}/{n}.png" for kind in AB for part in ("Train", "Val", "TEST") for n in range(5)],
        (10, 10, 10),
        ["the classes' own folders are taken for splits"],
    ),
    "three splits and a further folder": (
        [*some("train", "test"), "extra/1.png", "extra/2.png"],
        (20, None, 20),
        ["folder 'extra' is left out (2 images)"],
    ),
    "a test folder without classes": (
        [*some("train"), "test/1.png", "test/2.png"],
        (16, None, 4),
        ["folder 'test' is left out (2 images without class folders)"],
    ),
    "an empty test folder": ([*some("train"), "test/"], (16, None, 4), ["folders without images: 'test'"]),
    "a class called train": (
        some("", classes=("bus", "car", "train")),
        (24, None, 6),
        ["folder 'train' is taken for a class"],
    ),
    "classes with such words": (some("", classes=("bullet train", "car")), (16, None, 4), []),
    "a class called invalid": (some("", classes=("good", "invalid")), (16, None, 4), []),
    "what systems leave": (
        [
            *some(""),
            "__MACOSX/._1.png",
            ".ipynb_checkpoints/1.png",
            ".git/x",
            ".hidden",
            "ant/.DS_Store",
            "ant/Thumbs.db",
        ],
        (16, None, 4),
        ["left out 6 hidden or system files and folders"],
    ),
    "what systems leave in a split": (
        [*some("train", "val"), "train/.ipynb_checkpoints/", "train/__MACOSX/", "val/.DS_Store"],
        (20, None, 20),
        ["left out 3 hidden or system files and folders"],
    ),
    "a class without images": ([*some(""), "cow/"], (16, None, 4), ["folders without images: 'cow'"]),
    "a folder of labels": ([*some(""), "labels/1.xml"], (16, None, 4), ["1 .xml", "folders without images: 'labels'"]),
    "further extensions": (
        [*some(""), "ant/1.txt", "ant/2.txt", "bee/1.avif", "bee/README"],
        (16, None, 4),
        ["left out 1 file without an extension, 1 .avif, 2 .txt"],
    ),
    "upper case suffixes": (some("", suffix=".JPEG"), (16, None, 4), []),
    "one nested in a class": (
        [*some(""), "ant/more/x/1.png"],
        (17, None, 4),
        ["1 image in a folder inside class 'ant' ('more') counts for it"],
    ),
    "nested in a class": (
        [*some(""), "ant/more/x/1.png", "ant/old/1.png"],
        (18, None, 4),
        ["2 images in folders inside class 'ant' ('more', 'old') count for it"],
    ),
    "classes of folders": (
        [f"{kind}/{n}.png" for kind in ("ant/red", "ant/big", "bee/small") for n in range(5)],
        (12, None, 3),
        ["10 images in folders inside class 'ant' ('big', 'red')", "5 images in folders inside class 'bee'"],
    ),
    "images beside the classes": (
        [*some(""), "cover.png"],
        (16, None, 4),
        ["1 images outside the class folders are left out"],
    ),
    "files beside the splits": ([*some("train", "test"), "README.md", "test/1.csv"], (20, None, 20), ["1 .csv, 1 .md"]),
    "images beside the classes of a split": (
        [*some("train", "test"), "test/1.png"],
        (20, None, 20),
        ["1 images outside the class folders are left out"],
    ),
    "a class missing in the test": (
        [*some("train"), *some("test", classes=("ant",))],
        (20, None, 10),
        ["classes without test images: 'bee'"],
    ),
    "accents written in two ways": (
        [
            *some("train", classes=("ant", unicodedata.normalize("NFC", "été"))),
            *some("test", classes=("ant", unicodedata.normalize("NFD", "été"))),
        ],
        (20, None, 20),
        [],
    ),
}
REFUSED = {
    "two names for train": (some("train", "Training", "test"), "'Training' and 'train' for one role"),
    "validation twice": (some("train", "val", "dev"), "'dev' and 'val' for one role"),
    "no train": (some("val", "test"), "no folder to train on"),
    "only test": (some("test"), "no folder to train on"),
    "splits without classes": (
        ["train/1.png", "train/2.png", "test/1.png"],
        "'test', 'train' are named like splits but have no class folders",
    ),
    "train without classes": (["train/1.png", *some("test")], "train has no class folders|no folder to train on"),
    "seg splits without classes": (["seg_train/1.png", "seg_test/1.png"], "named like splits"),
    "a class or a test set": (some("", classes=("ant", "bee", "test")), "'test' are named like splits"),
    "valid and invalid": (some("", classes=("valid", "invalid")), "'valid' are named like splits"),
    "a split or a class": ([*some("train"), *some("", classes=("bus", "car"))], "'train' a split or a class beside"),
    "some classes divided": (
        [*[f"ant/{part}/1.png" for part in ("train", "test")], "bee/1.png"],
        "not every class there is divided",
    ),
    "a divided class with more": (
        [f"{kind}/{part}/1.png" for kind in AB for part in ("train", "test", "odd")],
        "not every class there is divided",
    ),
    "days of classes": (some("monday", "tuesday"), "not clear which are the classes"),
    "one class": (some("", classes=("ant",)), "has 1 class folder with"),
    "classes one level down": (some("dataset"), r"are they in '.*dataset'\? then give that as data\.root="),
    "splits one level down": (some("dataset/train", "dataset/test"), r"are they in '.*dataset'"),
    "no class folders": (["1.png", "2.png"], "has 0 class folders"),
    "nothing": ([], "has 0 class folders"),
    "a class only in the test": (
        [*some("train"), *some("test", classes=("ant", "bee", "cow"))],
        "class 'cow' has test images but none to train on",
    ),
    "classes that differ in case": (
        [*some("train"), *some("test", classes=("Ant", "bee"))],
        "class 'Ant' has test images but none to train on",
    ),
    "a class of unreadable photographs": ([*some(""), "cow/1.avif", "cow/2.avif"], r"class 'cow' .* 2 \.avif files"),
    "a class without training images": (
        [*some("train", "test"), "train/cow/", "test/cow/1.png"],
        "class 'cow' has test images but none to train on",
    ),
}


@pytest.mark.parametrize("layout", READ)
def test_what_is_meant_is_recognised(tmp_path, layout):
    files, sizes, notes = READ[layout]
    put(tmp_path, *files)
    splits = load_data("folder", root=tmp_path, image_size=8, val_fraction=0, in_memory=False)
    assert tuple(images and len(images) for images in (splits.train, splits.val, splits.test)) == sizes
    line = "\n".join(splits.notes)
    assert all(note in line for note in notes), line
    assert notes or not line


@pytest.mark.parametrize("layout", REFUSED)
def test_what_is_not_clear_is_refused_in_one_line(tmp_path, layout):
    files, message = REFUSED[layout]
    put(tmp_path, *files)
    with pytest.raises(AttarError, match=message) as caught:
        load_data("folder", root=tmp_path, image_size=8, val_fraction=0)
    assert "\n" not in str(caught.value)


def test_links_to_folders_are_counted(tmp_path):
    put(tmp_path, *some(""))
    (tmp_path / "ant" / "loop").symlink_to(tmp_path)
    assert "left out 1 links to folders" in load_data("folder", root=tmp_path, image_size=8).notes[0]


def test_heic_is_read_or_named(tmp_path, monkeypatch):
    from attar.data.sources import image_tree

    put(tmp_path, *some(""), "ant/1.heic")
    monkeypatch.setattr(image_tree, "SUFFIXES", (".png",))
    (note,) = load_data("folder", root=tmp_path, image_size=8).notes
    assert "1 .heic (pip install 'attar[heic]' reads them)" in note


@pytest.mark.parametrize("split", ["Training", "TRAIN", "train2017", "train_set"])
@pytest.mark.parametrize("other", ["valid", "Validation", "eval", "dev"])
def test_every_road_reads_the_names_of_splits_alike(tmp_path, split, other):
    from attar.data.sources.hugging_face import roles_of
    from attar.data.sources.manifest import Entries
    from attar.data.sources.web_dataset import role_of_shard

    assert roles_of(tmp_path, {split: None, other: None}) == ({"train": split, "val": other}, [])
    assert [role_of_shard(tmp_path / f"{name}-000.tar") for name in (split, other)] == ["train", "val"]
    entries = Entries(tmp_path / "table.csv", "line")
    for number, name in enumerate((split, other)):
        entries.enter({"path": "", "label": "ant", "split": name}, number, number)
    assert [entries.listings[role].items for role in ("train", "val")] == [[0], [1]]
