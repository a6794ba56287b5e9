"""The same image files give the same pixels, whichever road they come by."""

import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from attar.data import eval_batches, load_data, wrap
from attar.deploy.image_files import read_pixels

SIDE = 16
PIXELS = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
GREY = PIXELS[..., 0]


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def turned(orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    return encoded(Image.fromarray(PIXELS), exif=exif)


def palette():
    return Image.fromarray(PIXELS).quantize(32)


FILES = {
    "rgb": encoded(Image.fromarray(PIXELS)),
    "jpeg": encoded(Image.fromarray(PIXELS), "JPEG", quality=90),
    "sixteen bits": encoded(Image.fromarray(GREY.astype(np.uint16) * 257)),
    "float": encoded(Image.fromarray(GREY.astype(np.float32) / 255), "TIFF"),
    "float bytes": encoded(Image.fromarray(GREY.astype(np.float32)), "TIFF"),
    "palette": encoded(palette()),
    "palette with transparency": encoded(palette(), transparency=bytes(range(0, 256, 8))),
    "rgba": encoded(Image.fromarray(np.dstack([PIXELS, GREY]))),
    "grey and alpha": encoded(Image.merge("LA", [Image.fromarray(GREY)] * 2)),
    "cmyk": encoded(Image.fromarray(PIXELS).convert("CMYK"), "JPEG", quality=95),
    "one bit": encoded(Image.fromarray(GREY).convert("1")),
    **{f"orientation {number}": turned(number) for number in range(1, 9)},
}


def suffix(data):
    return {b"\x89": ".png", b"\xff": ".jpg"}.get(data[:1], ".tif")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Each file once in each of two classes, so that every road has something to train and to test on."""
    root = tmp_path_factory.mktemp("roads")
    for part in ("train", "test"):
        for kind in ("ant", "bee"):
            (root / part / kind).mkdir(parents=True)
            for number, data in enumerate(FILES.values()):
                (root / part / kind / f"{number:02d}{suffix(data)}").write_bytes(data)
    return root


def from_folder(folder, tmp_path):
    return load_data("folder", root=folder, image_size=SIDE, val_fraction=0).train.images


def streamed(folder, tmp_path):
    images = load_data("folder", root=folder, image_size=SIDE, val_fraction=0, in_memory=False, workers=0).train
    (batch,) = eval_batches(images, 100)
    std, mean = (torch.tensor(values)[:, None, None] for values in (images.std, images.mean))
    return ((batch.inputs * std + mean) * 255).round().to(torch.uint8)


def from_table(folder, tmp_path):
    files = sorted(folder.rglob("*.*"), key=lambda file: (file.parts[-3] == "test", file))
    lines = [f"{file.relative_to(folder)},{file.parts[-2]},{file.parts[-3]}" for file in files]
    (folder / "table.csv").write_text("\n".join(["path,label,split", *lines]))
    try:
        return load_data("manifest", root=folder / "table.csv", image_size=SIDE, val_fraction=0).train.images
    finally:
        (folder / "table.csv").unlink()


def from_shards(folder, tmp_path):
    with tarfile.open(tmp_path / "train.tar", "w") as tar:
        for file in sorted((folder / "train").rglob("*.*")):
            key = f"{file.parent.name}-{file.stem}"
            for name, data in ((f"{key}{file.suffix}", file.read_bytes()), (f"{key}.cls", file.parent.name.encode())):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    (tmp_path / "test.tar").write_bytes((tmp_path / "train.tar").read_bytes())
    return load_data("webdataset", root=tmp_path, image_size=SIDE, val_fraction=0).train.images


def from_parquet(folder, tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    files = sorted((folder / "train").rglob("*.*"))
    rows = {
        "image": [file.read_bytes() for file in files] * 2,
        "label": [file.parent.name for file in files] * 2,
        "split": ["train"] * len(files) + ["test"] * len(files),
    }
    pq.write_table(pa.table(rows), tmp_path / "t.parquet")
    return load_data("manifest", root=tmp_path / "t.parquet", image_size=SIDE, val_fraction=0).train.images


def from_hugging_face(folder, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    files = sorted((folder / "train").rglob("*.*"))
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["ant", "bee"])})
    rows = {
        "image": [{"bytes": file.read_bytes(), "path": None} for file in files],
        "label": [int(file.parent.name == "bee") for file in files],
    }
    part = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict(train=part, test=part).save_to_disk(str(tmp_path / "saved"))
    return load_data("hf", root=tmp_path / "saved", image_size=SIDE, val_fraction=0).train.images


def from_python(folder, tmp_path):
    images = [Image.open(file) for file in sorted((folder / "train").rglob("*.*"))]
    return torch.stack([wrap([(image, 0)]).images[0] for image in images])


def predicted(folder, tmp_path):
    files = sorted((folder / "train").rglob("*.*"))
    return torch.stack([torch.from_numpy(read_pixels(file, 3, SIDE)) for file in files])


ROADS = [from_folder, streamed, from_table, from_shards, from_parquet, from_hugging_face, from_python, predicted]


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_road_reads_the_same_pixels(road, folder, tmp_path, monkeypatch):
    more = {"monkeypatch": monkeypatch} if road is from_hugging_face else {}
    images = road(folder, tmp_path, **more).reshape(2, len(FILES), 3, SIDE, SIDE)
    assert torch.equal(images[0], images[1])
    found = dict(zip(FILES, images[0].permute(0, 2, 3, 1).numpy(), strict=True))
    for name in ("rgb", "rgba", "orientation 1"):
        assert np.array_equal(found[name], PIXELS), name
    for name in ("sixteen bits", "float", "float bytes", "grey and alpha"):
        assert np.array_equal(found[name], np.dstack([GREY] * 3)), name
    for name, back in {"orientation 3": np.rot90(PIXELS, 2), "orientation 6": np.rot90(PIXELS, -1)}.items():
        assert np.array_equal(found[name], back), name
    if road is not from_folder:
        assert torch.equal(images[0], from_folder(folder, tmp_path)[: len(FILES)])
