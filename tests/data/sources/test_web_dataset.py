import gzip
import io
import pickle
import tarfile

import pytest
import torch
from PIL import Image

from attar.data import FileSet, StreamingLoader, eval_batches, load_data
from attar.data.sources import web_dataset
from attar.errors import AttarError

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create", "ignore:.*use of fork:DeprecationWarning")


def png(red):
    held = io.BytesIO()
    Image.new("RGB", (10, 8), (red, 0, 0)).save(held, "PNG")
    return held.getvalue()


def shard(file, members):
    """Writes members: bytes, or a TarInfo of another kind."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as tar:
        for name, held in members.items():
            info = held if isinstance(held, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(held, bytes):
                info.size = len(held)
            tar.addfile(info, io.BytesIO(held) if isinstance(held, bytes) else None)
    return file


def pairs(numbers, label="cls"):
    members = {}
    for number in numbers:
        members[f"./{number:04d}.png"] = png(100 * (number % 2))
        members[f"./{number:04d}.{label}"] = (
            f"{number % 2}\n".encode() if label == "cls" else b'{"label": "%s"}' % (b"b" if number % 2 else b"a")
        )
    return members


def check_pixels(images):
    """Red is 100 times the number of the class."""
    (batch,) = eval_batches(images, 100)
    red = batch.inputs[:, 0, 4, 4] * images.std[0] + images.mean[0]
    assert torch.equal((255 * red).round().long(), 100 * batch.labels)


@pytest.fixture
def root(tmp_path):
    for number in range(3):
        shard(tmp_path / "shards" / f"{number:03d}.tar", pairs(range(10 * number, 10 * number + 10)))
    return tmp_path / "shards"


@pytest.mark.parametrize("in_memory", [True, False])
def test_shards_are_divided(root, in_memory):
    splits = load_data("webdataset", root=root, image_size=8, in_memory=in_memory, workers=0, val_fraction=0)
    assert splits.classes == ("0", "1")
    assert [len(splits.train), len(splits.test)] == [24, 6]
    assert isinstance(splits.train, FileSet) is not in_memory
    for images in (splits.train, splits.test):
        check_pixels(images)


def test_a_resumed_epoch_is_the_same_from_processes(root):
    settings = {"root": root, "image_size": 8, "val_fraction": 0}
    streamed = load_data("webdataset", **settings, in_memory=False).train
    held = load_data("webdataset", **settings, in_memory=True).train
    whole = list(StreamingLoader(streamed, 5, workers=0, seed=4).epoch(1))
    rest = list(StreamingLoader(streamed, 5, workers=2, seed=4).epoch(1, 2))
    for one, other in zip(whole[2:], rest, strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.index, other.index)
    assert torch.equal(eval_batches(held, 99).__next__().inputs, eval_batches(streamed, 99).__next__().inputs)
    assert pickle.loads(pickle.dumps(streamed)).fingerprint == streamed.fingerprint


@pytest.mark.parametrize(
    ("names", "sizes"),
    [
        (("train-0.tar", "validation-0.tar"), (6, None, 4)),
        (("imagenet1k-train-0.tar", "imagenet1k-val-0.tar", "imagenet1k-test-0.tar"), (6, 4, 2)),
        (("train/0.tar", "test/0.tar"), (6, None, 4)),
        (("0.tar", "test_0.tar"), (6, None, 4)),
    ],
)
def test_roles_come_from_the_names(tmp_path, names, sizes):
    for name, count in zip(names, (6, 4, 2), strict=False):
        shard(tmp_path / "s" / name, pairs(range(count)))
    splits = load_data("webdataset", root=tmp_path / "s", image_size=8, val_fraction=0)
    assert (len(splits.train), splits.val and len(splits.val), len(splits.test)) == sizes


@pytest.mark.parametrize(("pattern", "count"), [("{000..001}.tar", 20), ("{000,002}.tar", 20), ("*.tar", 30)])
def test_shards_by_a_pattern(root, pattern, count, monkeypatch):
    for place in (str(root / pattern), f"shards/{pattern}"):
        monkeypatch.chdir(root.parent)
        splits = load_data("webdataset", root=place, image_size=8, val_fraction=0)
        assert len(splits.train) + len(splits.test) == count


def test_a_pattern_that_names_a_missing_shard_is_refused(root):
    with pytest.raises(AttarError, match=r"shard .*003\.tar' is no file"):
        load_data("webdataset", root=root / "{000..003}.tar")


def test_labels_from_json_and_further_members(tmp_path):
    members = {"folder": tarfile.TarInfo("folder"), **pairs(range(10), "json")}
    members["folder"].type = tarfile.DIRTYPE
    members |= {"./0001.seg.png": b"a mask", "./0001.txt": b"a caption", "./README": b"about"}
    shard(tmp_path / "a.tar", members)
    splits = load_data("webdataset", root=tmp_path, image_size=8, val_fraction=0)
    assert splits.classes == ("a", "b")
    check_pixels(splits.train)


def test_another_key_of_json(tmp_path):
    members = {f"{n}.png": png(0) for n in range(10)} | {f"{n}.json": b'{"kind": %d}' % (n % 2) for n in range(10)}
    shard(tmp_path / "a.tar", members)
    assert load_data("webdataset", root=tmp_path, label_key="kind").classes == ("0", "1")
    with pytest.raises(AttarError, match=r"'0\.json' does not name a class; expected JSON with 'label'"):
        load_data("webdataset", root=tmp_path)


def test_uneven_classes_are_noted(tmp_path):
    members = {f"{n}.png": png(0) for n in range(11)} | {f"{n}.cls": b"%d" % (n == 10) for n in range(11)}
    shard(tmp_path / "train.tar", members)
    shard(tmp_path / "test.tar", pairs(range(2)))
    assert "'0' has 10 training images, '1' 1" in load_data("webdataset", root=tmp_path, val_fraction=0).notes[0]


def test_an_unreadable_image_is_named_by_its_shard(root):
    shard(root / "003.tar", {**pairs(range(10)), "bad.jpg": b"no image", "bad.cls": b"1"})
    with pytest.raises(AttarError, match=r"cannot read image .*003\.tar/bad\.jpg \(cannot identify") as caught:
        load_data("webdataset", root=root)
    assert "\n" not in str(caught.value)


def linked(kind):
    info = tarfile.TarInfo("x.png")
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"x.png": png(0)}, r"'x\.png' has no label; add x\.cls or x\.json"),
        ({"x.cls": b"0"}, "'x' has a label but no image"),
        ({"x.png": png(0), "x.jpg": png(0), "x.cls": b"0"}, "'x' has two images"),
        ({"x.png": png(0), "x.cls": b"0", "x.json": b"{}"}, "'x' has two labels"),
        ({"x.png": png(0), "x.cls": b""}, "does not name a class"),
        ({"x.png": png(0), "x.cls": b"\xff\xfe"}, "does not name a class"),
        ({"x.png": png(0), "x.json": b"[" * 100000}, "does not name a class"),
        ({"x.png": png(0), "x.json": b'{"label": [1]}'}, "does not name a class"),
        ({"x": linked(tarfile.SYMTYPE)}, "is a link or a device"),
        ({"x": linked(tarfile.LNKTYPE)}, "is a link or a device"),
        ({"x": linked(tarfile.CHRTYPE)}, "is a link or a device"),
        ({"x": linked(tarfile.FIFOTYPE)}, "is a link or a device"),
        ({"x.png": png(0), "x.cls": b"0"}, "1 class, '0'"),
        ({}, "no training images"),
    ],
)
def test_mistakes_are_named(tmp_path, members, message):
    shard(tmp_path / "a.tar", members)
    with pytest.raises(AttarError, match=message) as caught:
        load_data("webdataset", root=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_name_that_climbs_out_is_only_a_name(tmp_path):
    climbing = {f"../../{name}": held for name, held in pairs(range(10)).items()}
    shard(tmp_path / "in" / "here" / "a.tar", climbing)
    assert len(load_data("webdataset", root=tmp_path / "in", val_fraction=0).train) == 8
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["a.tar", "here", "in"]


def test_absurd_sizes_are_refused_before_anything_is_read(tmp_path, monkeypatch):
    shard(tmp_path / "a.tar", pairs(range(4)))
    monkeypatch.setattr(web_dataset, "MOST_IMAGE", 20)
    with pytest.raises(AttarError, match="bytes, more than"):
        load_data("webdataset", root=tmp_path)


def test_a_header_that_promises_more_than_there_is(tmp_path):
    info = tarfile.TarInfo("x.png")
    info.size = 10**8
    (tmp_path / "a.tar").write_bytes(info.tobuf() + b"little")
    with pytest.raises(AttarError, match=r"a\.tar.*(damaged|more than the shard)"):
        load_data("webdataset", root=tmp_path)


@pytest.mark.parametrize("cut", [3, 700, -5000])
def test_a_damaged_shard_is_named(root, cut):
    file = root / "001.tar"
    held = file.read_bytes()
    file.write_bytes(held[:cut] if cut > 0 else held[: len(held) // 2 + 100] + b"\xff" * 512)
    with pytest.raises(AttarError, match=r"001\.tar") as caught:
        load_data("webdataset", root=root)
    assert "\n" not in str(caught.value)


def test_a_damaged_header_is_not_taken_for_the_end(root):
    file = root / "001.tar"
    with tarfile.open(file) as tar:
        start = tar.getmembers()[4].offset
    held = bytearray(file.read_bytes())
    held[start : start + 512] = b"\xff" * 512
    file.write_bytes(held)
    with pytest.raises(AttarError, match=rf"001\.tar is damaged \(no header at byte {start}\)"):
        load_data("webdataset", root=root)
    held[start:] = b""  # some writers leave the end out
    file.write_bytes(held)
    assert len(load_data("webdataset", root=root, val_fraction=0).train) == 18


def test_a_compressed_shard_is_refused_with_a_hint(root):
    file = root / "001.tar"
    file.write_bytes(gzip.compress(file.read_bytes()))
    with pytest.raises(AttarError, match=r"001\.tar is compressed, .* decompress it first"):
        load_data("webdataset", root=root)


def test_no_shards(tmp_path):
    for place in (tmp_path, tmp_path / "none-*.tar"):
        with pytest.raises(AttarError, match=r"has no \.tar files"):
            load_data("webdataset", root=place)
    with pytest.raises(AttarError, match=r"give data\.root="):
        load_data("webdataset")
