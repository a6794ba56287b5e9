import pickle
import socket
import time

import pytest
import torch
from PIL import Image

from attar.data import FileSet, eval_batches, load_data
from attar.errors import AttarError

datasets = pytest.importorskip("datasets")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:This DataLoader will create")
NAMES = ["dog", "cat"]  # not in the order of the alphabet


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No network, and a cache of one's own."""

    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def made(count=20, labels=None, names=NAMES, label="kind", **more):
    pixels = [Image.new("RGB", (10, 8), (number % 2 * 100, number, 0)) for number in range(count)]
    labels = [number % 2 for number in range(count)] if labels is None else labels
    kind = datasets.ClassLabel(names=names) if names else datasets.Value("string" if labels[0] == "a" else "int64")
    features = {"picture": datasets.Image(), label: kind, **{name: datasets.Value("int64") for name in more}}
    return datasets.Dataset.from_dict({"picture": pixels, label: labels, **more}, features=datasets.Features(features))


def saved(tmp_path, **splits):
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "saved"))
    return tmp_path / "saved"


def check_pixels(images):
    """Red is 100 times the number of the class."""
    (batch,) = eval_batches(images, 100)
    red = batch.inputs[:, 0, 4, 4] * images.std[0] + images.mean[0]
    assert torch.equal((255 * red).round().long(), 100 * batch.labels)


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_saved_dataset_is_divided(tmp_path, in_memory):
    made().save_to_disk(str(tmp_path / "one"))
    splits = load_data("hf", root=tmp_path / "one", image_size=8, in_memory=in_memory, workers=0, val_fraction=0)
    assert splits.classes == ("dog", "cat")
    assert [len(splits.train), len(splits.test)] == [16, 4]
    assert isinstance(splits.train, FileSet) is not in_memory
    for images in (splits.train, splits.test):
        check_pixels(images)


@pytest.mark.parametrize(
    ("names", "sizes"),
    [
        (("train", "validation"), (6, None, 4)),
        (("train", "valid", "test"), (6, 4, 2)),
        (("train", "test"), (6, None, 4)),
    ],
)
def test_splits_play_the_roles_of_folders(tmp_path, names, sizes):
    root = saved(tmp_path, **{name: made(count) for name, count in zip(names, (6, 4, 2), strict=False)})
    splits = load_data("hf", root=root, image_size=8, val_fraction=0)
    assert (len(splits.train), splits.val and len(splits.val), len(splits.test)) == sizes


def test_a_folder_of_parquet_files_is_read(tmp_path):
    made().to_parquet(str(tmp_path / "data" / "train-00000-of-00001.parquet"))
    made(6).to_parquet(str(tmp_path / "data" / "test-00000-of-00001.parquet"))
    splits = load_data("hf", root=tmp_path, image_size=8, val_fraction=0)
    assert [len(splits.train), len(splits.test)] == [20, 6]
    check_pixels(splits.test)


def test_a_folder_of_images_is_read(tmp_path):
    for number in range(12):
        place = tmp_path / "pictures" / "train" / ("cat" if number % 2 else "ant")
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number % 2 * 100, 0, 0)).save(place / f"{number}.png")
    splits = load_data("hf", root=tmp_path / "pictures", image_size=8, val_fraction=0, in_memory=False, workers=0)
    assert splits.classes == ("ant", "cat")
    check_pixels(splits.train)


def test_streamed_by_processes_and_pickled(tmp_path):
    images = load_data("hf", root=saved(tmp_path, train=made()), image_size=8, in_memory=False, workers=1).train
    check_pixels(images)
    part = images.subset(torch.tensor([3, 1]))
    again = pickle.loads(pickle.dumps(part))
    assert again.fingerprint == part.fingerprint != images.fingerprint
    assert (again.read(0) == images.read(3)).all()


def test_columns_may_be_named(tmp_path):
    root = saved(tmp_path, train=made(names=None, label="answer", other=[n // 10 for n in range(20)]))
    with pytest.raises(AttarError, match=r"no label columns by type \(picture, answer, other\).*data\.label_column="):
        load_data("hf", root=root)
    assert load_data("hf", root=root, label_column="other", val_fraction=0).train.labels.tolist().count(1) == 8
    with pytest.raises(AttarError, match="did you mean 'answer'"):
        load_data("hf", root=root, label_column="answr")


def test_texts_are_classes_too(tmp_path):
    root = saved(tmp_path, train=made(8, ["a", "b"] * 4, names=None, label="label"))
    assert load_data("hf", root=root, val_fraction=0).classes == ("a", "b")


def test_splits_without_labels_and_of_other_names_are_left_out(tmp_path):
    hidden = made(4, [-1] * 4)
    splits = load_data("hf", root=saved(tmp_path, train=made(), test=hidden, validation=made(6), extra=made(2)))
    assert len(splits.test) == 6
    assert splits.notes == (
        "split 'extra' is left out; train, validation and test are used",
        "split 'test' has no labels and is left out",
    )


def test_uneven_classes_are_noted(tmp_path):
    root = saved(tmp_path, train=made(11, [0] * 10 + [1]), test=made(4))
    assert "'dog' has 10 training images, 'cat' 1" in load_data("hf", root=root, val_fraction=0).notes[0]


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": (4, [0, 1, -1, 0])}, "split 'train': image 2 has no label"),
        ({"train": (2, [-1, -1])}, "no training images"),
        ({"test": (4, None), "extra": (4, None)}, "has the splits 'test', 'extra'; expected one called train"),
        ({"train": (4, None), "val": (4, None), "validation": (4, None)}, "'val' and 'validation' for one role"),
        ({"train": (4, [0] * 4), "test": (2, [1, 1])}, "class 'cat' has test images but none to train on"),
    ],
)
def test_mistakes_are_named(tmp_path, splits, message):
    root = saved(tmp_path, **{name: made(*given) for name, given in splits.items()})
    with pytest.raises(AttarError, match=message) as caught:
        load_data("hf", root=root)
    assert "\n" not in str(caught.value)


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    held = datasets.Dataset.from_dict({"image": [{"bytes": b"no image"}] * 10, "label": [0, 1] * 5}, features=kinds)
    with pytest.raises(AttarError, match=r"cannot read image .*row 0 \(cannot identify"):
        load_data("hf", root=saved(tmp_path, train=held))


def test_labels_that_are_no_classes_are_named(tmp_path):
    table = pa.table({"image": [b"x"] * 4, "label": [0.5, 1.0, 2.0, 3.0], "box": [[1], [2], [3], [4]]})
    (tmp_path / "data").mkdir()
    pq.write_table(table, tmp_path / "data" / "train.parquet")
    for column, first in (("label", "0.5"), ("box", r"\[1\]")):
        with pytest.raises(AttarError, match=f"image 0 has the label {first} in '{column}'"):
            load_data("hf", root=tmp_path / "data", image_column="image", label_column=column)


def test_an_image_elsewhere_is_not_fetched(tmp_path):
    table = pa.table({"image": [{"bytes": None, "path": "https://example.com/a.png"}] * 10, "label": [0, 1] * 5})
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(AttarError, match=r"cannot read image .*row 0 \(it is elsewhere\)"):
        load_data("hf", root=tmp_path, image_column="image")


@pytest.mark.parametrize(
    "address",
    [
        "https://example.com/a.parquet",
        "hf://datasets/a/b/c.parquet",
        "../outside/x.parquet",
        "/etc/x.parquet",
        "[{split: train, path: [a.parquet, b/../../x.parquet]}]",
        "zip://a.parquet::b.zip",
    ],
)
@pytest.mark.parametrize("file", ["README.md", ".huggingface.yaml"])
def test_data_elsewhere_are_refused(tmp_path, address, file):
    text = f"configs:\n- config_name: default\n  data_files: {address}\n"
    (tmp_path / file).write_text(f"---\n{text}---\n" if file.endswith("md") else text)
    with pytest.raises(AttarError, match=rf"{file} names data elsewhere"):
        load_data("hf", root=tmp_path)


def test_a_head_is_found_where_the_hub_finds_it(tmp_path):
    (tmp_path / "README.md").write_text("\n---\ntitle: a---b\nconfigs: [{data_files: ../x.parquet}]\n---\n")
    with pytest.raises(AttarError, match=r"README\.md names data elsewhere \('\.\./x\.parquet'\)"):
        load_data("hf", root=tmp_path)


def test_settings_that_grow_are_refused_at_once(tmp_path):
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    (tmp_path / "README.md").write_text(f"---\na0: &a0 x\n{levels}configs: *a11\n---\n")
    start = time.monotonic()
    with pytest.raises(AttarError, match=r"README\.md has more than 200000 values"):
        load_data("hf", root=tmp_path)
    assert time.monotonic() - start < 5


def test_images_outside_the_folder_are_not_read(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    (tmp_path / "data" / "in").mkdir(parents=True)
    Image.new("RGB", (8, 8), (9, 9, 9)).save(tmp_path / "data" / "in" / "a.png")
    for path, outside in (("../secret.png", True), (str(tmp_path / "secret.png"), True), ("in/a.png", False)):
        rows = [{"bytes": None, "path": path}] * 10
        pq.write_table(pa.table({"image": rows, "label": [0, 1] * 5}), tmp_path / "data" / "train.parquet")
        if outside:
            with pytest.raises(AttarError, match="it is outside the folder of the dataset"):
                load_data("hf", root=tmp_path / "data", image_column="image")
        else:
            assert load_data("hf", root=tmp_path / "data", image_column="image").train.images.max() == 9


def test_what_datasets_cannot_read_is_reported_in_one_line(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(AttarError, match="datasets cannot read") as caught:
        load_data("hf", root=tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(AttarError, match=r"give data\.root="):
        load_data("hf", root=tmp_path / "none")


def test_without_datasets_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(AttarError, match=r"data=hf needs datasets; pip install 'attar\[hf\]'"):
        load_data("hf", root=tmp_path)
