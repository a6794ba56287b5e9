"""Labels for image files: without torch, as the student says, and whatever the files are."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import attar
from attar.deploy import image_files
from attar.deploy.predict import main, of_run, open_classifier, predict
from attar.errors import AttarError

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("onnxruntime")


@pytest.fixture
def digits(tmp_path, test_images):
    """A folder of the first test images as files."""
    folder = tmp_path / "digits"
    folder.mkdir()
    for number, image in enumerate(test_images[:5]):
        Image.fromarray(image[0].numpy()).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def photo(tmp_path):
    """A photograph-like image, 40 wide and 30 high, its left half red."""
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    pixels[:, :20] = (255, 0, 0)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("model", ["student.onnx", "", "student.safetensors"])
def test_predictions_are_the_students(exported, run, digits, test_images, model):
    place = exported.folder / model if model == "student.onnx" else run / model
    found = list(predict(place, [digits], top=10))
    with torch.no_grad():
        batch = next(iter(attar.data.eval_batches(attar.load_data("digits").test, 5)))
        expected = attar.load(run)(batch.inputs).double().softmax(1)
    assert [one.file.name for one in found] == [f"{number}.png" for number in range(5)]
    for one, row in zip(found, expected, strict=True):
        named = dict(one.labels)
        assert one.labels[0][0] == str(row.argmax().item())
        assert [named[str(label)] for label in range(10)] == pytest.approx(row.tolist(), abs=1e-5)
        assert [p for _, p in one.labels] == sorted(named.values(), reverse=True)


def test_a_baked_file_says_the_same(exported, baked, digits):
    both = predict(baked.folder, [digits]), predict(exported.folder / "student.onnx", [digits])
    for one, other in zip(*both, strict=True):
        assert [name for name, _ in one.labels] == [name for name, _ in other.labels]
        assert [p for _, p in one.labels] == pytest.approx([p for _, p in other.labels], abs=1e-5)


def test_it_needs_no_torch(exported, digits):
    code = (
        "import sys; from attar.deploy.predict import predict; "
        f"found = list(predict({str(exported.folder / 'student.onnx')!r}, [{str(digits)!r}])); "
        "print(len(found), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["5", "False"]


# What a machine without torch has: everything that Attar imports besides is absent.
ABSENT = ("torch", "typer", "rich", "omegaconf", "yaml", "safetensors", "scipy", "timm", "torchvision", "onnx")


def test_the_module_needs_onnxruntime_numpy_and_pillow_alone(exported, digits):
    code = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({ABSENT})); "
        f"sys.argv = ['predict', {str(exported.folder / 'student.onnx')!r}, {str(digits)!r}, '--top', '2']; "
        "runpy.run_module('attar.deploy.predict', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = predict(exported.folder / "student.onnx", [digits], 2)
    assert done.stdout.splitlines() == [
        f"{one.file}  " + "  ".join(f"{name} {100 * share:.1f}" for name, share in one.labels) for one in found
    ]


def test_without_torch_a_folder_is_read_without_its_weights(exported, digits, tmp_path):
    """And weights alone are one line."""
    both, weights = tmp_path / "both", tmp_path / "weights"
    for place, names in ((both, ("student.int8.onnx", "student.safetensors")), (weights, ("student.safetensors",))):
        place.mkdir()
        for name in (*names, "student.json"):
            shutil.copy(exported.folder / name, place / name)
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({ABSENT})); from attar.deploy.predict import main; "
        f"sys.exit(10 * main([{str(weights)!r}, {str(digits)!r}]) + main([{str(both)!r}, {str(digits)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == f"attar: {weights} needs torch; pip install attar, or give an exported .onnx file\n"
    assert (done.returncode, len(done.stdout.splitlines())) == (10, 5)


@pytest.mark.slow
def test_an_environment_of_three_packages_labels_images(exported, digits, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "empty"], check=True)
    (place,) = (tmp_path / "empty" / "lib").glob("python*/site-packages")
    for package in ("onnxruntime", "numpy", "PIL"):
        home = Path(importlib.util.find_spec(package).origin).parent
        for one in (home, *home.parent.glob(f"{home.name.lower().replace('pil', 'pillow')}.libs")):
            (place / one.name).symlink_to(one)
    (place / "attar").symlink_to(Path(attar.__file__).parent)
    command = [tmp_path / "empty" / "bin" / "python", "-m", "attar.deploy.predict", exported.folder / "student.onnx"]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run([*command, digits], capture_output=True, text=True, env=clean, check=False)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 5), done.stderr


MODES = {
    "grey.png": lambda image: image.convert("L"),
    "palette.gif": lambda image: image.convert("P"),
    "cmyk.jpg": lambda image: image.convert("CMYK"),
    "alpha.png": lambda image: image.convert("RGBA"),
    "deep.png": lambda image: Image.fromarray(np.array(image.convert("L")).astype(np.uint16) * 257),
    "bits.png": lambda image: image.convert("1"),
    "photo.jpg": lambda image: image,
}


@pytest.mark.parametrize("name", MODES)
def test_pixels_are_those_of_the_data_set(photo, tmp_path, name):
    from attar.decoding import read_image

    MODES[name](photo).save(tmp_path / name)
    mine = image_files.read_pixels(tmp_path / name, 3, 16)
    assert np.array_equal(mine, read_image(tmp_path / name, 16).transpose(2, 0, 1))
    assert image_files.read_pixels(tmp_path / name, 1, 16).shape == (1, 16, 16)


def test_a_photograph_stands_upright(photo, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the left side is the bottom
    photo.save(tmp_path / "turned.png", exif=exif)
    red, green, _ = image_files.read_pixels(tmp_path / "turned.png", 3, 16)
    assert red[:6].min() == 255
    assert green[:6].max() == 0
    assert red[10:].min() < 255


def test_files_that_cannot_be_read_leave_the_others_alone(exported, digits, photo):
    photo.save(digits / "broken.jpg")
    whole = (digits / "broken.jpg").read_bytes()
    (digits / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    (digits / "text.png").write_text("no image")
    found = {one.file.name: one for one in predict(exported.folder, [digits, digits / "none.png"])}
    assert len(found) == 8
    assert sum(one.error is None for one in found.values()) == 5
    assert "truncated" in found["broken.jpg"].error.lower()
    assert found["text.png"].error == f"cannot read image {digits / 'text.png'} (no image that Pillow can read)"
    assert found["none.png"].error == f"{digits / 'none.png'} does not exist"
    assert found["text.png"].to_json() == {"file": str(digits / "text.png"), "error": found["text.png"].error}
    assert all("\n" not in (one.error or "") for one in found.values())


def test_more_images_than_a_batch_keep_their_order(exported, digits):
    files = [digits / f"{number % 5}.png" for number in range(70)]
    found = list(predict(exported.folder, files, top=1))
    assert [one.file for one in found] == files
    assert [one.labels for one in found[:5]] == [one.labels for one in found[65:]]


def test_a_margin_is_cut_away_as_in_the_tests_of_the_run(exported, tmp_path):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(exported.folder / "student.onnx")
    for entry in model.metadata_props:
        if entry.key == "read_size":
            entry.value = "12"
    onnx.save(model, tmp_path / "wide.onnx")
    pixels = np.arange(144, dtype=np.uint8).reshape(12, 12)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    Image.fromarray(pixels[2:10, 2:10]).save(tmp_path / "cut.png")
    (wide,) = predict(tmp_path / "wide.onnx", [tmp_path / "wide.png"])
    (cut,) = predict(exported.folder / "student.onnx", [tmp_path / "cut.png"])
    assert wide.labels == cut.labels


def test_models_that_are_none(exported, run, digits, tmp_path, monkeypatch):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(exported.folder / "student.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    (tmp_path / "empty").mkdir()
    for place, message in (
        (
            tmp_path / "bare.onnx",
            "has no classes in its metadata: it is no classifier of images that `attar export` wrote",
        ),
        (tmp_path / "text.onnx", "onnxruntime cannot read"),
        (tmp_path / "none.onnx", "does not exist; `attar export RUN onnx` writes one"),
        (tmp_path / "empty", "holds no run"),
    ):
        with pytest.raises(AttarError, match=message):
            list(predict(place, [digits]))
    for images, top, message in (([tmp_path / "empty"], 3, "holds no images"), ([digits], 0, "top is 0")):
        with pytest.raises(AttarError, match=message):
            list(predict(exported.folder, images, top))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(AttarError, match=r"needs onnxruntime; pip install 'attar\[export\]'"):
        open_classifier(exported.folder / "student.onnx")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(AttarError, match=r"needs Pillow; pip install 'attar\[vision\]'"):
        list(predict(run, [digits]))


def test_images_of_other_channels_are_refused(run, tmp_path, digits):
    for name in ("student.safetensors", "student.json"):
        shutil.copy(run / name, tmp_path / name)
    card = json.loads((tmp_path / "student.json").read_text())
    (tmp_path / "student.json").write_text(
        json.dumps({**card, "image_shape": [4, 8, 8], "mean": [0.5] * 4, "std": [0.5] * 4})
    )
    with pytest.raises(AttarError, match="takes images of 4 channels; image files have 1 or 3"):
        list(predict(tmp_path, [digits]))


def test_as_a_module_a_file_that_is_missing_is_one_line_and_status_1(capsys):
    assert main(["nothing.onnx", "image.png"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("attar: ")
    assert printed.err.count("\n") == 1


def test_folders_that_systems_leave_behind_are_passed_over(tmp_path):
    for place in (".", "deep", ".ipynb_checkpoints", "__MACOSX", "deep/@eaDir"):
        (tmp_path / place).mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / place / "a.png")
    assert image_files.image_files([tmp_path]) == [tmp_path / "a.png", tmp_path / "deep" / "a.png"]


def test_an_export_that_cannot_be_read_back_says_so(run, tmp_path):
    done = attar.export(run, ["pt2"], out=tmp_path / "export")
    with pytest.raises(AttarError, match="holds an export without an ONNX file, and others cannot be read back"):
        list(of_run(done.folder, []))
