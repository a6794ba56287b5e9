import hashlib
import os
import pickle
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch

from attar.data import load_data
from attar.data.sources import cifar, download
from attar.errors import AttarError

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 3072), dtype=np.uint8)


def write(file, record):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(record, protocol=2))


def write_cifar100(folder):
    labels = [i % 4 for i in range(20)]
    for part in ("train", "test"):
        write(folder / part, {"data": PIXELS, "fine_labels": labels, "coarse_labels": labels})
    write(folder / "meta", {"fine_label_names": ["apple", "bear", "cup", "dog"], "coarse_label_names": ["x"]})


@pytest.fixture
def root(tmp_path):
    write_cifar100(tmp_path / "cifar-100-python")
    return tmp_path


@pytest.fixture
def packed(root, tmp_path_factory, monkeypatch):
    """A folder that holds the archive alone, its checksum taken for the published one."""
    place = tmp_path_factory.mktemp("packed")
    with tarfile.open(place / "cifar-100-python.tar.gz", "w:gz") as tar:
        tar.add(root / "cifar-100-python", "cifar-100-python")
    md5 = hashlib.md5((place / "cifar-100-python.tar.gz").read_bytes()).hexdigest()
    monkeypatch.setattr(cifar, "CIFAR100", replace(cifar.CIFAR100, md5=md5))
    return place


def test_the_folder_or_its_parent_is_read(root):
    splits = load_data("cifar100", root=root, val_fraction=0)
    assert splits.classes == ("apple", "bear", "cup", "dog")
    assert splits.augment.crop_padding == 4
    assert splits.augment.flip
    assert torch.equal(splits.train.images, torch.from_numpy(PIXELS).view(-1, 3, 32, 32))
    assert splits.train.labels.tolist() == [i % 4 for i in range(20)]
    inside = load_data("cifar100", root=root / "cifar-100-python", val_fraction=0)
    assert inside.train.fingerprint == splits.train.fingerprint


def test_cifar10_is_read_in_order(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    for number, name in enumerate([f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]):
        write(folder / name, {"data": PIXELS[number : number + 4], "labels": [number] * 4})
    write(folder / "batches.meta", {"label_names": list("abcdefghij")})
    splits = load_data("cifar10", root=tmp_path, val_fraction=0)
    assert splits.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4
    assert splits.test.labels.tolist() == [5] * 4


def test_the_archive_is_unpacked(packed):
    assert len(load_data("cifar100", root=packed).test) == 20
    assert (packed / "cifar-100-python" / "meta").is_file()


def test_another_archive_is_refused(packed, monkeypatch):
    monkeypatch.setattr(cifar, "CIFAR100", replace(cifar.CIFAR100, md5="0" * 32))
    with pytest.raises(AttarError, match="not the published file: expected md5 0000"):
        load_data("cifar100", root=packed)
    assert not (packed / "cifar-100-python").exists()


def test_a_missing_set_is_downloaded(packed, tmp_path_factory, monkeypatch):
    place, archive = tmp_path_factory.mktemp("empty"), packed / "cifar-100-python.tar.gz"
    asked = []

    def fetch(url, file, md5):
        asked.append(url)
        file.write_bytes(archive.read_bytes())

    monkeypatch.setattr(cifar, "fetch", fetch)
    assert len(load_data("cifar100", root=place).test) == 20
    assert asked == ["https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"]


def test_no_network_is_one_line(tmp_path, monkeypatch):
    def urlopen(url, timeout):
        raise URLError("no network")

    monkeypatch.setattr(download, "urlopen", urlopen)
    with pytest.raises(AttarError, match=r"cannot download .*cifar-100-python.tar.gz.*data\.root="):
        load_data("cifar100", root=tmp_path)


def test_without_download_the_expected_folder_is_named(tmp_path):
    with pytest.raises(AttarError, match=r"expected cifar-100-python/ or cifar-100-python.tar.gz") as caught:
        load_data("cifar100", root=tmp_path, download=False)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("file", "record", "message"),
    [
        ("meta", {"names": []}, "no fine_label_names"),
        ("train", {"data": PIXELS}, "no fine_labels"),
        ("train", {"data": PIXELS, "fine_labels": [0] * 19}, "one row of 3072 bytes"),
        ("train", {"data": PIXELS.astype(float), "fine_labels": [0] * 20}, "one row of 3072 bytes"),
        ("test", {"data": PIXELS, "fine_labels": [4] * 20}, r"labels are not 0\.\.3"),
    ],
)
def test_damaged_contents_are_named(root, file, record, message):
    write(root / "cifar-100-python" / file, record)
    with pytest.raises(AttarError, match=f"{file} is damaged .*{message}"):
        load_data("cifar100", root=root)


@pytest.mark.slow
@pytest.mark.data
def test_the_published_set(tmp_path):
    here = Path(__file__).parents[3]
    unpack = Path(os.environ.get("ATTAR_DATA", here.parent / "shared" / "data")) / "unpack.py"
    if not unpack.is_file():
        pytest.skip("ATTAR_DATA does not point to the CIFAR-100 data")
    subprocess.run([sys.executable, unpack, "cifar100", tmp_path], check=True, capture_output=True)
    splits = load_data("cifar100", root=tmp_path, download=False)
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [45000, 5000, 10000]
    assert splits.train.labels.bincount().tolist() == [450] * 100
    assert splits.classes[:2] == ("apple", "aquarium_fish")
    mean = splits.train.images.float().mean((0, 2, 3)) / 255
    torch.testing.assert_close(mean, torch.tensor(splits.train.mean), atol=1e-3, rtol=0)
