"""An exported network as a teacher of logits."""

import copy
import warnings
from contextlib import nullcontext
from importlib.util import find_spec

import pytest
import torch
from torch.nn import functional

import attar
from attar.batch import Batch
from attar.conformance import check
from attar.data import ImageSet, Splits
from attar.deploy import save
from attar.errors import AttarError
from attar.experiments.build import build
from attar.methods import create_method
from attar.models import Frozen, create_model
from attar.models.graphs.onnx import described, to_onnx
from attar.models.graphs.traced import Deployed, facts
from attar.profiling.cost import file_size
from attar.recipe import ModelRecipe
from sweeps import first_of

if any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")):
    pytest.skip("onnx, onnxscript and onnxruntime are not installed", allow_module_level=True)

MEAN, STD = [0.2, 0.3, 0.4], [0.5, 0.6, 0.7]


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


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A network that Attar trained on pictures of its own normalisation, and its exported file."""
    folder = tmp_path_factory.mktemp("exported")
    torch.manual_seed(3)
    net = create_model("resnet8", 3, image_size=16).eval()
    card = {"classes": ["a", "b", "c"], "image_shape": [3, 16, 16], "mean": MEAN, "std": STD, "data": "pictures"}
    save(net, folder / "student.safetensors", **card)
    (folder / "student.onnx").write_bytes(
        described(to_onnx(Deployed(net, MEAN, STD, bake=False), torch.zeros(2, 3, 16, 16)), facts(card, bake=False))
    )
    return net, folder


def pictures(classes, mean, std, side=16):
    images = torch.randint(0, 256, (6, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    return ImageSet(images, torch.arange(6) % 3, tuple(classes), "pictures", tuple(mean), tuple(std))


@pytest.mark.parametrize("kind", ["onnx", "weights"])
@pytest.mark.parametrize("classes", ["abc", "cab"])
def test_a_teacher_that_attar_saved_sees_its_own_images_and_names_its_classes(exported, kind, classes):
    net, folder = exported
    file = folder / "student.onnx"
    weights = str(folder / "student.safetensors")
    recipe = {"name": f"onnx/{file}"} if kind == "onnx" else {"name": "resnet8", "weights": weights}
    data = pictures(classes, [0.0] * 3, [1.0] * 3)
    with nullcontext() if classes == "abc" else pytest.warns(UserWarning, match="classes in another order"):
        teacher = build(ModelRecipe(**recipe), Splits(data, data), 0, "teacher").eval()
    mean, std = (torch.tensor(one).view(-1, 1, 1) for one in (MEAN, STD))
    own = (data.images / 255 - mean) / std
    rows = ["abc".index(name) for name in classes]
    with torch.no_grad():
        torch.testing.assert_close(teacher(data.images / 255), net(own)[:, rows], atol=1e-4, rtol=1e-4)
        # Images of another size are brought to its own.
        large = pictures(classes, MEAN, STD, side=32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            teacher = build(ModelRecipe(**recipe), Splits(large, large), 0, "teacher").eval()
        seen = functional.interpolate(own, (32, 32), mode="nearest")
        shrunk = functional.interpolate(seen, (16, 16), mode="bilinear", antialias=True)
        torch.testing.assert_close(teacher(seen), net(shrunk)[:, rows], atol=1e-3, rtol=1e-3)


def test_rows_of_a_file_can_be_chosen(exported):
    net, folder = exported
    data = pictures("xyz", MEAN, STD)
    recipe = ModelRecipe(f"onnx/{folder / 'student.onnx'}", classes=[2, 0, 1])
    teacher = build(recipe, Splits(data, data), 0, "teacher")
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(teacher(images), net(images)[:, [2, 0, 1]], atol=1e-4, rtol=1e-4)


def test_its_size_is_that_of_its_file(file):
    assert file_size(create_model(f"onnx/{file}", 10, in_channels=1, image_size=8)) == file.stat().st_size
