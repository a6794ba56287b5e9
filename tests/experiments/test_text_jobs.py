"""A job of a text classifier: its predictions, its exported files, and runs that begin from it."""

import io
import json

import pytest
import torch
from rich.console import Console

import attar
from attar.experiments.job import Job
from attar.experiments.networks_of_runs import with_networks_of_runs
from attar.recipe import read_recipe
from text_runs import sentence, write_sentences

QUIET = Console(file=io.StringIO())


@pytest.fixture
def command(request):
    """Runs a command, as the fixture `attar` does, whose name is the package's here."""
    return request.getfixturevalue("attar")


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    return write_sentences(tmp_path_factory.mktemp("sentences"))


@pytest.fixture(scope="module")
def finished(sentences, tmp_path_factory):
    """A finished run."""
    return attar.distill(**sentence(sentences), out=str(tmp_path_factory.mktemp("text") / "run"), console=QUIET)


def test_a_text_classifier_labels_each_line_of_a_text(finished, tmp_path, command):
    run, file = finished.folder, tmp_path / "lines.txt"
    file.write_text("good x\nbad one\n", encoding="utf-8")
    status, out, _ = command("predict", run, file, "--json")
    found = json.loads(out)[0]["sentences"]
    rows = [[256, *b"good x", 257], [256, *b"bad one", 257]]
    expected = [attar.load(run)(torch.tensor([row])).detach().softmax(1)[0] for row in rows]
    assert (status, [one["sentence"] for one in found]) == (0, ["good x", "bad one"])
    for one, row in zip(found, expected, strict=True):
        assert (int(one["label"]), one["probability"]) == (int(row.argmax()), pytest.approx(float(row.max()), abs=1e-6))
    file.write_text("good\n\nbad\n", encoding="utf-8")
    status, _, err = command("predict", run, file)
    assert (status, err.count("\n")) == (2, 1)
    assert "line 2: expected one sentence, without a tab, got ''" in err


@pytest.mark.slow
def test_a_text_classifier_is_exported_for_any_length(finished, tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    run = finished
    done = attar.export(run.folder, ["safetensors", "pt2", "onnx"], out=tmp_path / "files")
    score = run.runs[0]["student"].scores["accuracy"]
    assert [file.parity.score for file in done.files] == pytest.approx([score] * 3)
    from attar.models.graphs.onnx import open_onnx

    inputs = {"input_ids": torch.tensor([[256, 97, 257, 258]]), "attention_mask": torch.tensor([[1, 1, 1, 0]])}
    expected = attar.load(run.folder)(**inputs)
    assert torch.allclose(open_onnx(tmp_path / "files" / "student.onnx")(**inputs), expected, atol=1e-5)


def test_a_run_of_a_text_classifier_teaches_the_next(finished, sentences, tmp_path):
    keys = {**sentence(sentences), "epochs": 3, "alone": "skip"}
    keys["teacher"] = str(finished.folder / "teacher")
    job = Job(with_networks_of_runs(read_recipe(**keys, out=str(tmp_path / "next"))), tmp_path / "next", QUIET)
    assert job.parts.untrained() == []
    own = attar.load(finished.folder / "teacher").state_dict()
    assert all(torch.equal(own[key], value) for key, value in job.teachers[0].state_dict().items())
    student = job.parts.student(0).state_dict()
    for number, theirs in ((1, 2), (2, 4)):
        name = "attention.self.query.weight"
        assert torch.equal(student[f"stage{number}.{name}"], own[f"stage{theirs}.{name}"])


def test_a_student_cannot_start_from_no_teacher(sentences, tmp_path):
    keys = {**sentence(sentences), "method": "supervised"}
    del keys["teacher"]
    with pytest.raises(attar.AttarError, match="starts from a teacher's layers, and there is none"):
        attar.distill(**keys, out=str(tmp_path / "run"), console=QUIET)
