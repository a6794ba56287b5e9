"""One tiny finished run, and what an export makes of it."""

import io

import pytest
import torch
from rich.console import Console

import attar
from attar.deploy import Student


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """The folder of a finished distillation on digits."""
    folder = tmp_path_factory.mktemp("runs") / "kd"
    attar.distill(
        teacher="resnet8", student="resnet8", data={"name": "digits", "train_size": 300}, batch_size=20, epochs=4,
        optim={"lr": 0.05}, precision="float32", method="kd", out=str(folder), console=Console(file=io.StringIO()),
    )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def exported(run, tmp_path_factory):
    """That run in every format."""
    return attar.export(run, out=tmp_path_factory.mktemp("export") / "all", license="apache-2.0")


@pytest.fixture(scope="session")
def baked(run, tmp_path_factory):
    """That run in the graph formats, with the normalisation inside."""
    return attar.export(run, ["onnx", "pt2", "onnx-int8"], out=tmp_path_factory.mktemp("export") / "baked", bake=True)


@pytest.fixture(scope="session")
def drawn_student():
    """A student as its initialisation drew it, with few images: enough for what only compares and writes."""
    torch.manual_seed(0)
    splits, every = attar.load_data("digits", val_fraction=0), torch.arange(0, 800, 16)
    net = attar.create_model("resnet8", num_classes=10, in_channels=1, image_size=8).eval()
    card = {**splits.test.card, "data": "digits"}
    given = (splits.test.subset(every), splits.train.subset(every), attar.create_task())
    more = splits.train.subset(torch.arange(1, 800, 8))
    return Student(net, card, *given, train=more, val=more)


@pytest.fixture(scope="session")
def test_images():
    """The test images, as bytes."""
    return attar.load_data("digits").test.images
