"""Images that are not square, from their loading to predictions on files."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import attar
from attar import AttarError, create_model
from attar.data import ImageSet, load_data
from attar.deploy import load
from attar.deploy.predict import predict
from attar.sizes import height_width, shortest

SIZE = (12, 24)


def halves(count=40):
    """Two classes: the left or the right end of the image is bright, beyond a centre square."""
    pixels = torch.randint(60, (count, 3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(count) % 2
    pixels[labels == 0, ..., :5] += 180
    pixels[labels == 1, ..., -5:] += 180
    return ImageSet(pixels, labels, ("left", "right"), "halves", (0.3,) * 3, (0.3,) * 3)


def test_sizes_in_one_number_or_two():
    assert [height_width(size) for size in (8, (8, 8), [4, 8])] == [(8, 8), (8, 8), (4, 8)]
    assert [shortest(size) for size in (8, (8, 8), [4, 8])] == [8, 8, (4, 8)]


def test_networks_of_the_zoo_are_rebuilt_for_the_same_images():
    net = create_model("resnet8", num_classes=2, image_size=SIZE)
    assert net.input_shape == (3, 12, 24)
    again = create_model(**json.loads(json.dumps(net.spec)))
    assert again.input_shape == (3, 12, 24)
    with pytest.raises(AttarError, match="got 2x24"):
        create_model("vgg8", image_size=(2, 24))


def test_a_network_behind_a_resize():
    net = create_model("resnet8", num_classes=2, image_size=SIZE, input_size=16)
    assert net(torch.zeros(1, 3, *SIZE)).shape == (1, 2)
    assert net.input_shape == (3, 12, 24)


def test_a_transformer_of_timm():
    pytest.importorskip("timm")
    net = create_model("timm/vit_tiny_patch16_224", num_classes=2, image_size=(32, 64))
    assert net(torch.zeros(1, 3, 32, 64)).shape == (1, 2)
    assert create_model(**{"name": net.spec["model"], "image_size": net.spec["image_size"]}).input_shape == (3, 32, 64)


def test_a_transformer_of_torchvision_is_refused_in_one_line():
    pytest.importorskip("torchvision")
    with pytest.raises(AttarError, match="takes square images only; give student"):
        create_model("torchvision/vit_b_16", num_classes=2, image_size=(32, 64))


def test_distilled_exported_and_predicted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = (halves(), halves(20))
    attar.distill(
        teacher="resnet8", student="resnet8", data=data, epochs=3, batch_size=10, alone="skip", precision="float32",
        jobs=1, out="run",
    )  # fmt: skip
    net = load("run").eval()
    with torch.no_grad():
        pixels = data[1].images
        logits = net((pixels / 255 - 0.3) / 0.3)
    files = []
    for number, image in enumerate(pixels):
        files.append(tmp_path / f"{number:02d}.png")
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(files[-1])
    wanted = [data[1].classes[k] for k in logits.argmax(1).tolist()]
    assert [one.labels[0][0] for one in predict("run", files)] == wanted
    shares = [dict(one.labels)["left"] for one in predict("run", files, top=2)]
    assert np.allclose(shares, logits.softmax(1)[:, 0].numpy(), atol=1e-4)
    pytest.importorskip("onnxruntime")
    attar.export("run", ["onnx"], data=data)
    assert [one.labels[0][0] for one in predict("run/export/student.onnx", files)] == wanted


@pytest.fixture
def photos(tmp_path):
    """A folder of images of 16x40 pixels: the class is at an end that no centre square shows."""
    for number in range(48):
        name = ("left", "right")[number % 2]
        shade = np.full((16, 40, 3), 20 + number, np.uint8)
        shade[:, :8] += 180 * (name == "left")
        shade[:, -8:] += 180 * (name == "right")
        (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(shade).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param([], marks=pytest.mark.slow),
        ["data.resize_size=[10,25]", "data.in_memory=false", "data.workers=0"],
    ],
    ids=["in memory", "streamed"],
)
def test_a_folder_from_the_command_line_has_one_answer_on_every_road(photos, attar, keys, tmp_path):
    recipe = ["student=resnet8", f"data={photos}", "data.image_size=[8,20]", "data.augment.flip=false", *keys]
    recipe += ["epochs=8", "batch_size=8", "precision=float32", "optim.lr=0.05", "out=run"]
    assert attar("train", *recipe)[0] == 0
    card = json.loads((tmp_path / "run" / "student.json").read_text())
    assert card["image_shape"] == [3, 8, 20]
    assert card["test"]["top1"] == 1.0
    assert attar("evaluate", "run")[0] == 0
    assert json.loads((tmp_path / "evaluation" / "scores.json").read_text())["top1"] == 1.0
    assert attar("export", "run", "safetensors", "out=export")[0] == 0
    shares = []
    for model in ("run", "export"):
        status, printed, _ = attar("predict", model, photos, "--json", "--top", "2")
        assert status == 0
        found = json.loads(printed)
        assert all(one["labels"][0]["label"] in one["file"] for one in found)
        shares.append([one["labels"][0]["probability"] for one in found])
    assert np.allclose(*shares, atol=1e-5)


def test_image_sets_and_files_are_resized_to_the_same_rectangle(photos):
    wide = load_data(str(photos), image_size=[8, 20], val_fraction=0)
    assert wide.image_shape == (3, 8, 20)
    assert wide.network["image_size"] == [8, 20]
    whole = load_data(str(photos), image_size=[16, 40], val_fraction=0)
    assert (whole.train.resized((8, 20)).images.int() - wide.train.images.int()).abs().max() <= 1
    streamed = load_data(str(photos), image_size=[16, 40], in_memory=False, val_fraction=0).train.resized([8, 20])
    assert np.array_equal(streamed.read(0), load_data(str(photos), image_size=[8, 20], in_memory=False).train.read(0))
    assert whole.train.resized(8).image_shape == (3, 8, 8)


@pytest.mark.parametrize("size", [[8], 0, [8, 0], [8, 8, 8], "8x20", [8.5, 8], True])
def test_what_is_no_size_is_one_line(photos, size):
    with pytest.raises(AttarError, match="image_size must be a side of at least 1 pixel, or \\[height, width\\], got"):
        load_data(str(photos), image_size=size)


def test_a_margin_must_cover_the_rectangle(photos):
    with pytest.raises(AttarError, match=r"resize_size=\(10, 16\) must be at least image_size=\(8, 20\)"):
        load_data(str(photos), image_size=[8, 20], resize_size=[10, 16])
