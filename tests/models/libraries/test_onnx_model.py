"""An exported network as a teacher of logits."""

import copy
import warnings
from importlib.util import find_spec

import pytest
import torch

import attar
from attar.batch import Batch
from attar.conformance import check
from attar.errors import AttarError
from attar.methods import create_method
from attar.models import Frozen, create_model
from sweeps import first_of

if any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")):
    pytest.skip("onnx, onnxscript and onnxruntime are not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return create_model("resnet8", 10, in_channels=1, image_size=8).eval()


@pytest.fixture(scope="module", params=first_of(["free", "fixed"]))
def file(request, net, tmp_path_factory):
    """The network exported for any number of images, or for four at a time."""
    file = tmp_path_factory.mktemp("onnx") / "net.onnx"
    shapes = ({0: torch.export.Dim("batch")},) if request.param == "free" else None
    with warnings.catch_warnings():
        # The exporter uses what its own libraries call deprecated.
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.zeros(4, 1, 8, 8),), file, dynamo=True, dynamic_shapes=shapes, verbose=False)
    return file


def test_it_says_what_was_exported(file, net):
    images = torch.randn(6, 1, 8, 8)
    teacher = create_model(f"onnx/{file}", 10, in_channels=1, image_size=8)
    torch.testing.assert_close(Frozen(copy.deepcopy(teacher))(images).logits, net(images), atol=1e-4, rtol=1e-4)


def test_it_teaches_methods_of_logits(file):
    teacher = create_model(f"onnx/{file}", 10, in_channels=1, image_size=8)
    student = create_model("resnet8", 10, in_channels=1, image_size=8)
    batch = Batch(torch.randn(4, 1, 8, 8), torch.arange(4))
    check(create_method("kd", teacher=teacher, student=student), batch)
    with pytest.raises(AttarError, match="needs the stages of the teacher, and OnnxNet has none"):
        create_method("sokd", teacher=teacher, student=student)
    with pytest.raises(AttarError, match="nothing learns"):
        check(create_method("supervised", student=teacher), batch)


def test_a_whole_run(file, tmp_path):
    summary = attar.distill(
        teacher=f"onnx/{file}",
        student="resnet8",
        method="kd",
        data={"name": "digits", "train_size": 60},
        batch_size=20,
        epochs=1,
        alone="skip",
        out=str(tmp_path / "run"),
    )
    assert (summary.folder / "student.safetensors").is_file()


def test_mistakes_are_answered(file, tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no network")
    for name, options, message in (
        (tmp_path / "none.onnx", {}, "none.onnx does not exist"),
        (broken, {}, "broken.onnx is no network onnxruntime can run"),
        (file, {"num_classes": 7}, "puts out .*10.* for one image; the data have 7 classes"),
        (file, {"image_size": 16, "in_channels": 3}, "does not take images of .3, 16, 16."),
        (file, {"weights": "pretrained"}, "has its weights and no options"),
    ):
        with pytest.raises(AttarError, match=message):
            create_model(f"onnx/{name}", **{"num_classes": 10, "in_channels": 1, "image_size": 8, **options})
