"""A run in every format: each file computes what the student computes, and a format that cannot says why."""

import builtins
import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import attar
from attar.data import load_data
from attar.deploy import Student, export, export_student, find_trained, read_export
from attar.deploy.formats import FORMATS
from attar.deploy.formats.pt2 import META, open_pt2
from attar.errors import AttarError
from attar.models.fingerprint import fingerprint
from attar.models.graphs.onnx import open_onnx

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
FLOAT = ("safetensors", "pt2", "onnx")


@pytest.fixture
def student(run):
    """The run's student with few images."""
    trained, splits = find_trained(run), load_data("digits", val_fraction=0)
    few = torch.arange(0, 800, 16)
    return Student(
        attar.load(run), trained.card, splits.test.subset(few), splits.train.subset(few), attar.create_task()
    )


def prepared(run, pixels):
    """Bytes as the student sees them."""
    card = find_trained(run).card
    mean, std = (torch.tensor(card[key])[:, None, None] for key in ("mean", "std"))
    return (pixels / 255 - mean) / std


def test_every_format_is_there_and_measured(exported, run):
    assert [file.format for file in exported.files] == [*FLOAT, "onnx-int8"]
    assert not exported.failures
    assert exported.count == 898
    scores = json.loads((run / "scores.json").read_text())["results"][0]["scores"]
    assert scores["top1"] > 0.5
    for file in exported.files:
        assert file.bytes == (exported.folder / file.file).stat().st_size
        assert file.latency.median > 0
        assert file.batch_latency.median > file.latency.median
        if file.format in FLOAT:
            assert file.parity.relative < 1e-5
            assert file.parity.same_label == 1
            assert file.parity.score == pytest.approx(scores["top1"])


def test_eight_bits_are_smaller_and_nearly_as_good(exported):
    *_, floating, small = exported.files
    assert small.bytes < 0.5 * floating.bytes
    assert 0.97 < small.parity.same_label <= 1
    assert small.parity.max_difference > floating.parity.max_difference
    assert (floating.calibrated, small.calibrated) == (None, 512)


@pytest.mark.parametrize(("file", "read"), [("student.onnx", open_onnx), ("student.pt2", open_pt2)])
def test_graphs_take_any_batch_and_agree_on_every_image(exported, run, test_images, file, read):
    net, again = attar.load(run), read(exported.folder / file)
    with torch.no_grad():
        for size in (1, 3, 898):
            images = prepared(run, test_images[:size])
            torch.testing.assert_close(again(images), net(images), rtol=1e-4, atol=1e-4)
            assert torch.equal(again(images).argmax(1), net(images).argmax(1))


def test_the_weights_are_the_runs(exported, run):
    before, after = load_file(run / "student.safetensors"), load_file(exported.folder / "student.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert json.loads((exported.folder / "student.json").read_text()) == json.loads((run / "student.json").read_text())


@pytest.mark.parametrize("file", ["student.onnx", "student.int8.onnx"])
def test_onnx_says_how_to_use_it(exported, run, file):
    model = onnx.load(exported.folder / file)
    onnx.checker.check_model(model, full_check=True)
    output, card = {entry.key: entry.value for entry in model.metadata_props}, find_trained(run).card
    assert json.loads(output["classes"]) == card["classes"]
    assert (json.loads(output["mean"]), json.loads(output["std"])) == (card["mean"], card["std"])
    assert (output["image_size"], output["colour"], output["data"], output["method"]) == (
        "[8, 8]",
        "grey",
        "digits",
        "kd",
    )
    assert output["input"] == "float32 (N, 1, 8, 8), (pixels / 255 - mean) / std"
    assert ("512 training images" in output.get("quantisation", "")) == (file == "student.int8.onnx")
    assert {entry.version for entry in model.opset_import if not entry.domain} == {18}


def test_pt2_says_how_to_use_it(exported):
    extra = {META: ""}
    torch.export.load(exported.folder / "student.pt2", extra_files=extra)
    assert json.loads(extra[META])["image_size"] == "[8, 8]"


def test_no_file_tells_where_it_was_made(exported, run):
    for file in exported.folder.iterdir():
        content = file.read_bytes()
        for place in (attar.__file__.removesuffix("/__init__.py"), str(run)):
            assert place.encode() not in content, file


def test_the_folder_holds_the_table_and_the_card(exported):
    names = {file.name for file in exported.folder.iterdir()}
    files = {"student.safetensors", "student.json", "student.pt2", "student.onnx", "student.int8.onnx"}
    assert names == {*files, "export.json", "export.md", "README.md"}
    tree = json.loads((exported.folder / "export.json").read_text())
    assert tree["files"] == [file.to_json() for file in exported.files]
    assert set(tree["files"][2]["latency_32_ms"]) == {"median", "spread"}
    assert tree["threads"] == 1
    assert tree["environment"]["onnxruntime"]
    assert "| onnx-int8 |" in (exported.folder / "export.md").read_text()


def test_baked_files_take_pixels(run, baked, test_images):
    assert [file.format for file in baked.files] == ["pt2", "onnx", "onnx-int8"]
    assert [file.parity.same_label for file in baked.files[:2]] == [1, 1]
    assert baked.files[2].parity.same_label > 0.97
    net = attar.load(run)
    for again in (open_onnx(baked.folder / "student.onnx"), open_pt2(baked.folder / "student.pt2")):
        with torch.no_grad():
            torch.testing.assert_close(again(test_images), net(prepared(run, test_images)), rtol=1e-4, atol=1e-4)
    assert "uint8" in (baked.folder / "README.md").read_text()


def test_a_file_that_computes_something_else_is_refused_and_the_others_are_kept(student, tmp_path, monkeypatch):
    wrong = replace(FORMATS["pt2"], open=lambda path: lambda images: 1.01 * open_pt2(path)(images))
    monkeypatch.setitem(FORMATS._records, "pt2", wrong)
    monkeypatch.setattr(export, "latency", lambda *_, **__: attar.profiling.Latency(1.0, 0.0))
    done = export_student(student, tmp_path, ["pt2", "safetensors"])
    assert [file.format for file in done.files] == ["safetensors"]
    assert done.failures["pt2"].startswith("pt2 differs from the student: an output by ")
    assert "0.01 of the largest (at most 0.001 is allowed), 100.00 % of the labels equal" in done.failures["pt2"]
    assert not (tmp_path / "student.pt2").exists()


class Odd(nn.Module):
    """Uses an operator that ONNX has not, or a branch that no graph can hold."""

    def __init__(self, net, branch):
        super().__init__()
        self.net, self.branch = net, branch

    def forward(self, images):
        logits = self.net(images)
        if self.branch:
            return logits if logits.sum() > 0 else 2 * logits
        return torch.special.bessel_j0(logits)


def test_an_operator_that_onnx_has_not_is_named(student, tmp_path):
    done = export_student(replace(student, net=Odd(student.net, branch=False)), tmp_path, ["onnx"])
    assert not done.files
    assert done.failures["onnx"].startswith("onnx has no operator ")
    assert "bessel_j0; replace it in the network, or leave onnx out" in done.failures["onnx"]
    assert not list(tmp_path.iterdir())


def test_a_network_that_no_graph_can_hold_is_one_line(student, tmp_path):
    done = export_student(replace(student, net=Odd(student.net, branch=True)), tmp_path, ["pt2"])
    assert done.failures["pt2"].startswith("pt2 cannot hold this network (")
    assert "\n" not in done.failures["pt2"]


@pytest.mark.parametrize(
    ("package", "kind"), [("onnx", "onnx"), ("onnxscript", "onnx"), ("onnxruntime", "onnx"), ("onnx", "onnx-int8")]
)
def test_a_missing_package_names_the_extra(student, tmp_path, monkeypatch, package, kind):
    def missing(name):
        if name.partition(".")[0] == package:
            raise ImportError(name)
        return builtins.__import__(name, fromlist=["_"])

    monkeypatch.setattr("attar.extras.importlib.import_module", missing)
    done = export_student(student, tmp_path, [kind])
    assert done.failures == {kind: f"{kind} needs {package}; pip install 'attar[export]'"}


MISTAKES = {
    "unknown format": ({"formats": ["onix"]}, "unknown format 'onix'; did you mean 'onnx'?"),
    "out is a file": ({"out": "recipe.yaml"}, "recipe.yaml is a file; choose another folder"),
    "out is the run": ({"out": ""}, "is where the student lies; choose another folder"),
    "too few images": ({"calibration": 3}, "calibration is 3; give 10 images or more, one of each class"),
    "no data": ({"data": {"name": "cifar100", "root": "."}}, "give the folder that has it as data.root="),
    "no option": ({"data": {"rot": "."}}, "did you mean 'root'|unknown option of data set 'digits': 'rot'"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_writes_nothing(run, tmp_path, kind):
    shutil.copytree(run, tmp_path / "run")
    before = sorted(tmp_path.rglob("*"))
    arguments, message = MISTAKES[kind]
    if "out" in arguments:
        arguments = {"out": tmp_path / "run" / arguments["out"]}
    if "root" in arguments.get("data", {}):
        arguments = {"data": {**arguments["data"], "root": str(tmp_path)}}
    with pytest.raises(AttarError, match=message):
        attar.export(tmp_path / "run", **arguments)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_on_objects_needs_them_again(run, tmp_path):
    for name in ("student.safetensors", "student.json"):
        shutil.copy(run / name, tmp_path / name)
    card = json.loads((tmp_path / "student.json").read_text())
    (tmp_path / "student.json").write_text(json.dumps({**card, "data": "given:list"}))
    with pytest.raises(AttarError, match=r"was an object in Python .*data=\.\.\."):
        attar.export(tmp_path)
    done = attar.export(tmp_path, "safetensors", data=load_data("digits"))
    assert done.files[0].parity.same_label == 1
    assert done.folder == tmp_path / "export"


def test_what_no_export_wrote_is_not_overwritten(run, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(AttarError, match=r"holds README.md and no export.json, so it may be yours"):
        attar.export(run, ["safetensors"], out=tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    (tmp_path / "README.md").unlink()
    for _ in range(2):  # its own files are written again
        attar.export(run, ["safetensors"], out=tmp_path)


def test_an_export_of_a_run_that_was_killed_between_its_files_is_done_again(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    done = attar.export(tmp_path / "run", ["safetensors"])
    (done.folder / "export.json").unlink()
    assert (attar.export(tmp_path / "run", ["safetensors"]).folder / "export.json").is_file()


def names(folder):
    return {one.name for one in folder.iterdir()}


def test_further_formats_of_a_network_join_the_earlier_ones(run, tmp_path):
    attar.export(run, ["onnx", "safetensors"], out=tmp_path)
    done = attar.export(run, ["pt2", "safetensors"], out=tmp_path)
    assert [file.format for file in done.files] == ["safetensors", "pt2"]
    held = read_export(tmp_path)
    assert [file.format for file in held.files] == list(FLOAT)
    assert held.weights == fingerprint(attar.load(run))
    for name in ("README.md", "export.md"):
        assert all(f"| {kind} |" in (tmp_path / name).read_text() for kind in FLOAT)
    (tmp_path / "student.pt2").unlink()
    attar.export(run, ["safetensors"], out=tmp_path)
    assert [file.format for file in read_export(tmp_path).files] == ["safetensors", "onnx"]


@pytest.mark.parametrize("other", ["weights", "bake", "damaged"])
def test_the_files_of_another_network_are_deleted(run, tmp_path, other):
    attar.export(run, ["onnx", "safetensors"], out=tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    if other == "damaged":
        (tmp_path / "export.json").write_text("{")
    attar.export(run / "teacher" if other == "weights" else run, ["pt2"], out=tmp_path, bake=other == "bake")
    assert names(tmp_path) == {"student.pt2", "export.json", "export.md", "README.md", "notes.txt"}
    assert [file.format for file in read_export(tmp_path).files] == ["pt2"]


def test_what_a_killed_export_left_is_not_mixed_with_another(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    folder = attar.export(tmp_path / "run", ["onnx"], bake=True).folder
    (folder / "export.json").unlink()
    attar.export(tmp_path / "run", ["safetensors"])
    assert "student.onnx" not in names(folder)


class Stuck(nn.Module):
    def forward(self, images):
        raise RuntimeError("no kernel for this type\nat line 7")


@pytest.mark.parametrize("when", ["open", "run"])
def test_a_network_that_a_runtime_cannot_run_is_one_line_and_the_others_are_kept(student, tmp_path, monkeypatch, when):
    wrong = replace(FORMATS["pt2"], open=lambda path: Stuck()(None) if when == "open" else Stuck())
    monkeypatch.setitem(FORMATS._records, "pt2", wrong)
    monkeypatch.setattr(export, "latency", lambda *_, **__: attar.profiling.Latency(1.0, 0.0))
    done = export_student(student, tmp_path, ["pt2", "safetensors"])
    assert [file.format for file in done.files] == ["safetensors"]
    assert done.failures["pt2"] == "pt2 does not run this network (no kernel for this type); leave pt2 out"
    assert names(tmp_path) == {"student.safetensors", "student.json"}
