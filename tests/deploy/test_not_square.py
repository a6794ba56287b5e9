"""Images that are not square, from their loading to predictions on files."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import attar
from attar import AttarError, create_model
from attar.data import ImageSet
from attar.deploy import load
from attar.deploy.predict import predict
from attar.models.preprocessing import height_width, shortest

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
