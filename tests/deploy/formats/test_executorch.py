"""A run as a .pte file: ExecuTorch computes from it what the student computes; without it a line says what to do."""

import importlib.util
import json
import re
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

import attar
from attar.data import load_data
from attar.deploy import Student, export_student, find_trained
from attar.deploy.export import check_formats
from attar.deploy.formats import executorch as executorch_file
from attar.deploy.formats.executorch import open_pte
from attar.errors import AttarError

installed = pytest.mark.skipif(
    importlib.util.find_spec("executorch") is None, reason="needs executorch: pip install 'attar[executorch]'"
)


@pytest.fixture
def student(run):
    """The run's student with few images."""
    trained, splits = find_trained(run), load_data("digits", val_fraction=0)
    few = torch.arange(0, 800, 16)
    return Student(
        attar.load(run), trained.card, splits.test.subset(few), splits.train.subset(few), attar.create_task()
    )


@pytest.fixture
def absent(monkeypatch):
    """A machine that has the package's name and none of its parts."""
    monkeypatch.setitem(sys.modules, "executorch", ModuleType("executorch"))
    for part in ("executorch.exir", "executorch.runtime"):
        monkeypatch.setitem(sys.modules, part, None)


@pytest.fixture(scope="session")
def written(run, tmp_path_factory):
    return attar.export(run, "executorch", out=tmp_path_factory.mktemp("export") / "pte")


def logits(net, images):
    with torch.no_grad():
        return net(images)


@installed
def test_it_computes_what_the_student_computes(written, run):
    (file,) = written.files
    assert (file.format, file.file, written.failures) == ("executorch", "student.pte", {})
    assert file.bytes == (written.folder / "student.pte").stat().st_size
    scores = json.loads((run / "scores.json").read_text())["results"][0]["scores"]
    assert 0 < file.parity.relative < 1e-4
    assert file.parity.same_label == 1
    assert file.parity.score == pytest.approx(scores["top1"])
    net, again = attar.load(run), open_pte(written.folder / "student.pte")
    pybindings = importlib.import_module("executorch.extension.pybindings.portable_lib")
    assert pybindings._threadpool_get_thread_count() == 1
    # No batch of images is the same as another: a buffer that is used twice would show.
    images = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(logits(again, images), logits(net, images), rtol=1e-4, atol=1e-4)
    strided = images.transpose(2, 3)
    torch.testing.assert_close(logits(again, strided), logits(net, strided), rtol=1e-4, atol=1e-4)


@installed
def test_xnnpack_has_all_layers_and_the_file_says_how_to_use_it(written, run):
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(written.folder / "student.pte")
    forward = program.metadata("forward")
    assert forward.input_tensor_meta(0).sizes() == (1, 1, 8, 8)
    content = (written.folder / "student.pte").read_bytes()
    assert b"XnnpackBackend" in content
    assert b"aten::" not in content
    output = {name: program.load_method(name).execute(())[0] for name in program.method_names - {"forward"}}
    card = find_trained(run).card
    assert json.loads(output["classes"]) == card["classes"]
    assert json.loads(output["mean"]) == card["mean"]
    assert output["input"] == "float32 (1, 1, 8, 8), (pixels / 255 - mean) / std"


@installed
def test_nothing_tells_where_it_was_made_and_the_card_says_how_to_load_it(written, run):
    content, card = (written.folder / "student.pte").read_bytes(), (written.folder / "README.md").read_text()
    for place in (attar.__file__.removesuffix("/__init__.py"), str(run)):
        assert place.encode() not in content
    assert 'load_program("student.pte").load_method("forward")' in card
    assert "- executorch\n" in card


@installed
def test_baked_it_takes_pixels(student, tmp_path):
    done = export_student(replace(student, bake=True), tmp_path, ["executorch"])
    assert done.failures == {}
    assert done.files[0].parity.same_label == 1
    pixels = student.test.images[:2]
    mean, std = (torch.tensor(student.card[key])[:, None, None] for key in ("mean", "std"))
    again = open_pte(tmp_path / "student.pte")(pixels)
    torch.testing.assert_close(again, logits(student.net, (pixels / 255 - mean) / std), rtol=1e-4, atol=1e-4)


class Odd(nn.Module):
    """Uses an operator that ExecuTorch has not."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        return torch.special.bessel_j0(self.net(images))


@installed
def test_an_operator_that_it_has_not_is_named(student, tmp_path):
    done = export_student(replace(student, net=Odd(student.net)), tmp_path, ["executorch"])
    assert done.failures["executorch"] == (
        "executorch has no operator aten.special_bessel_j0.default; replace it in the network, or leave executorch out"
    )
    assert not list(tmp_path.iterdir())


@installed
def test_a_file_that_its_runtime_cannot_run_is_one_line(tmp_path, capfd):
    (tmp_path / "student.pte").write_bytes(b"no program" * 20)
    with pytest.raises(AttarError, match=r"^executorch cannot run this network \(.+\); leave executorch out$"):
        open_pte(tmp_path / "student.pte")
    assert capfd.readouterr() == ("", "")


def test_a_missing_package_names_the_extra_and_the_others_are_kept(student, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "executorch", None)
    done = export_student(student, tmp_path, ["executorch", "safetensors"])
    assert done.failures == {"executorch": "executorch needs executorch; pip install 'attar[executorch]'"}
    assert [file.format for file in done.files] == ["safetensors"]


@pytest.mark.usefixtures("absent")
def test_a_package_that_does_not_load_says_why(student, tmp_path):
    done = export_student(student, tmp_path, ["executorch"])
    output = done.failures["executorch"]
    assert output.startswith("executorch is installed but does not load (")
    assert output.endswith(f"install the release made for torch {torch.__version__}")
    with pytest.raises(AttarError, match="does not load"):
        open_pte(tmp_path / "student.pte")


@pytest.mark.usefixtures("absent")
@pytest.mark.parametrize(
    ("reason", "line"),
    [
        (
            "\nOperator torch._ops.aten.lgamma.default is not in Core ATen opset\nTry:",
            "has no operator aten.lgamma.def",
        ),
        ("no such thing\nat line 3", r"cannot hold this network \(ValueError: no such thing\); leave executorch out"),
    ],
)
def test_a_lowering_that_fails_is_one_line_and_the_others_are_kept(student, tmp_path, monkeypatch, reason, line):
    def fails(*_, **__):
        raise ValueError(reason)

    parts = [SimpleNamespace(to_edge_transform_and_lower=fails), SimpleNamespace(XnnpackPartitioner=object)]
    monkeypatch.setattr(executorch_file, "_load", lambda *_: parts)
    done = export_student(student, tmp_path, ["safetensors", "executorch"])
    assert re.match(f"executorch {line}", done.failures["executorch"])
    assert "\n" not in done.failures["executorch"]
    assert {file.name for file in tmp_path.iterdir()} == {"student.safetensors", "student.json"}


def test_it_is_made_only_when_it_is_asked_for():
    assert "executorch" not in check_formats([])
    assert check_formats(["executorch", "pt2"]) == ["pt2", "executorch"]
