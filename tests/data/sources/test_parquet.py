import io

import pytest
import torch
from PIL import Image

from attar.data import FileSet, eval_batches, load_data
from attar.data.sources import from_files, parquet
from attar.errors import AttarError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def png(colour, size=(10, 8)):
    held = io.BytesIO()
    Image.new("RGB", size, colour).save(held, "PNG")
    return held.getvalue()


COLOURS = [(200, 0, 0) if number % 2 else (0, 200, 0) for number in range(12)]
LABELS = ["red" if number % 2 else "green" for number in range(12)]


@pytest.fixture
def write(tmp_path):
    def write(**columns):
        pq.write_table(pa.table(columns), tmp_path / "table.parquet", row_group_size=5)
        return tmp_path / "table.parquet"

    return write


@pytest.fixture
def files(tmp_path):
    names = [f"{number:02d}.png" for number in range(12)]
    for name, colour in zip(names, COLOURS, strict=True):
        (tmp_path / name).write_bytes(png(colour))
    return names


def test_a_table_of_paths_is_read_as_from_csv(write, files, tmp_path):
    roles = ["train"] * 6 + ["val"] * 3 + ["test"] * 3
    (tmp_path / "table.csv").write_text(
        "path,label,split\n" + "".join(f"{n},{c},{r}\n" for n, c, r in zip(files, LABELS, roles, strict=True))
    )
    table = write(path=files, label=pa.array(LABELS).dictionary_encode(), split=roles)
    settings = {"image_size": 8, "in_memory": False, "workers": 0}
    one, other = (load_data("manifest", root=file, **settings) for file in (table, tmp_path / "table.csv"))
    for role in ("train", "val", "test"):
        assert getattr(one, role).fingerprint == getattr(other, role).fingerprint


def embedded(kind):
    pieces = [png(colour) for colour in COLOURS]
    return pa.array(pieces if kind == "bytes" else [{"bytes": piece, "path": "x.png"} for piece in pieces])


@pytest.mark.parametrize("kind", ["bytes", "struct"])
@pytest.mark.parametrize("in_memory", [True, False])
def test_a_table_may_hold_its_images(write, kind, in_memory, monkeypatch):
    monkeypatch.setattr(parquet, "ROWS", 5)
    table = write(image=embedded(kind), label=[number % 2 for number in range(12)])
    splits = load_data("manifest", root=table, image_size=8, val_fraction=0, in_memory=in_memory, workers=0)
    assert splits.classes == ("0", "1")
    assert isinstance(splits.train, FileSet) is not in_memory
    for images, count in ((splits.train, 10), (splits.test, 2)):
        (batch,) = eval_batches(images, 12)
        assert len(batch) == count
        # Odd rows are red: the sign of the difference between red and green says which class an image is of.
        assert torch.equal((batch.inputs[:, 0, 4, 4] > batch.inputs[:, 1, 4, 4]).long(), batch.labels)


def test_images_keep_their_rows_when_parts_are_taken(write):
    roles = ["test" if number < 4 else "train" for number in range(12)]
    table = write(image=[png((10 * number, 0, 0)) for number in range(12)], label=LABELS, split=roles)
    train = load_data("manifest", root=table, image_size=8, val_fraction=0, in_memory=False, workers=0).train
    part = train.subset(torch.tensor([5, 2])).subset(torch.tensor([1]))
    assert part.read(0)[0, 0].tolist() == [60, 0, 0]
    assert part.path(0).name == "row 7"


def test_the_images_tell_one_table_from_another(write):
    settings = {"image_size": 8, "in_memory": False}
    prints = []
    for colour in (10, 20):
        pieces = [png((colour, number, 0)) for number in range(12)]
        prints.append(load_data("manifest", root=write(image=pieces, label=LABELS), **settings).train.fingerprint)
    assert prints[0] != prints[1]


def test_an_unreadable_image_is_named_by_its_row(write):
    pieces = [png(colour) for colour in COLOURS]
    pieces[3] = b"no image"
    table = write(image=pieces, label=LABELS)
    with pytest.raises(AttarError, match=r"cannot read image .*table\.parquet/row 4 "):
        load_data("manifest", root=table)
    splits = load_data("manifest", root=table, skip_unreadable=True, val_fraction=0)
    assert len(splits.train) + len(splits.test) == 11


def test_uneven_classes_are_noted(write):
    table = write(image=embedded("bytes"), label=["a"] * 10 + ["b"] * 2, split=["train"] * 11 + ["test"])
    assert "uneven: 'a' has 10 training images, 'b' 1" in load_data("manifest", root=table).notes[1]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": ["../a.png"], "label": ["a"]}, "row 1: '../a.png' leaves the folder"),
        ({"path": ["none.png"], "label": ["a"]}, r"row 1: there is no file .*none\.png.* remove the row"),
        ({"path": [None], "label": ["a"]}, "expected one path and one label"),
        ({"path": ["a.png"], "label": [float("nan")]}, "expected one path and one label"),
        ({"path": ["a.png"], "lable": ["a"]}, "did you mean 'label'"),
        ({"path": ["a.png"]}, "no column 'label'"),
        ({"image": [b"x"], "label": ["a"], "path": ["a.png"]}, "unknown column"),
        ({"image": ["a.png", "b.png"], "label": ["a", "b"]}, "column 'image' .* is string; .* is called path"),
        ({"image": [b"x", None], "label": ["a", "b"]}, "row 2: there is no image"),
        ({"image": [b"x", b"y"], "label": ["a", "b"], "split": ["train", "tset"]}, "did you mean 'test'"),
        ({"image": [b"x", b"y"], "label": ["a", None]}, "row 2: expected one image and one label"),
    ],
)
def test_mistakes_are_named(write, columns, message):
    with pytest.raises(AttarError, match=message) as caught:
        load_data("manifest", root=write(**columns))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", [b"", b"no table", b"PAR1 but no more PAR1"])
def test_a_damaged_file_is_named(tmp_path, damage):
    (tmp_path / "t.parquet").write_bytes(damage)
    with pytest.raises(AttarError, match=r"t\.parquet cannot be read as a Parquet file") as caught:
        load_data("manifest", root=tmp_path / "t.parquet")
    assert "\n" not in str(caught.value)


def test_a_page_that_is_damaged_is_named(write):
    table = write(image=embedded("bytes"), label=LABELS)
    held = bytearray(table.read_bytes())
    held[4:200] = bytes(196)
    table.write_bytes(held)
    with pytest.raises(AttarError, match="cannot be read as a Parquet file"):
        load_data("manifest", root=table)


def test_images_that_do_not_fit_are_refused_before_they_are_read(write, monkeypatch):
    monkeypatch.setattr(parquet, "MEMORY_LIMIT", 100)
    with pytest.raises(AttarError, match=r"take .* GB, .* give data=hf"):
        load_data("manifest", root=write(image=embedded("struct"), label=LABELS))
    assert from_files.MEMORY_LIMIT > 100


def test_without_pyarrow_the_extra_is_named(write, monkeypatch):
    table = write(image=embedded("bytes"), label=LABELS)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(AttarError, match=r"needs pyarrow; pip install 'attar\[parquet\]'"):
        load_data("manifest", root=table)
