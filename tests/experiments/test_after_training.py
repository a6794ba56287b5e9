"""The student is on the disk before anything is measured; what fails afterwards is a line, and resume finishes it."""

import io
import json
import sys

import pytest
import torch
from rich.console import Console
from torch import nn

import attar
from attar.errors import AttarError
from attar.experiments import job as jobs
from attar.experiments import launch
from attar.experiments import training as trainings
from attar.recipe import read_recipe

measuring = sys.modules["attar.profiling.cost"]  # the room has a function of this name
VALUES = {
    "student": "resnet8",
    "data": {"name": "digits", "train_size": 40},
    "method": "supervised",
    "alone": "skip",
    "epochs": 1,
    "batch_size": 20,
    "precision": "float32",
}


def distil(folder, **values):
    console = Console(file=io.StringIO(), width=200)
    summary = launch.start(read_recipe(**{**VALUES, **values}, out=str(folder)), console)
    return summary, console.file.getvalue()


def resume(folder):
    console = Console(file=io.StringIO(), width=200)
    return launch.resume(folder, console), console.file.getvalue()


def broken(*_, **__):
    raise AssertionError("no way")


def test_a_student_that_cannot_be_scored_is_saved_and_scored_on_resume(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(trainings, "evaluate_each", broken)
        with pytest.raises(
            AttarError, match=r"student.safetensors is trained and saved, but cannot be scored; .*: no way"
        ):
            distil(tmp_path / "run")
    weights = (tmp_path / "run" / "student.safetensors").read_bytes()
    assert attar.load(tmp_path / "run").spec["name"] == "resnet8"
    summary, _ = resume(tmp_path / "run")
    assert summary.student.read_bytes() == weights
    assert summary.runs[0]["student"].scores["top1"] > 0
    assert json.loads((tmp_path / "run" / "student.json").read_text())["test"]["top1"] > 0


def test_a_student_that_was_an_object_is_on_the_disk_although_it_cannot_be_scored(tmp_path, monkeypatch):
    monkeypatch.setattr(trainings, "evaluate_each", broken)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    keys = {**VALUES, "student": net, "out": str(tmp_path / "run"), "console": Console(file=io.StringIO())}
    with pytest.raises(AttarError, match="is trained and saved"):
        attar.distill(**keys)
    from safetensors.torch import load_file

    assert load_file(tmp_path / "run" / "student.safetensors")["1.weight"].shape == (10, 64)


@pytest.mark.parametrize(
    ("part", "line", "shown"),
    [
        pytest.param(
            "file_size",
            "supervised: student: file size not measured: no way; measured again when the run is resumed",
            "bytes",
            marks=pytest.mark.slow,
        ),
        ("latency", "latency not measured: no way", "latency_ms"),
        pytest.param("macs", "multiply-accumulates not measured: no way", "macs", marks=pytest.mark.slow),
    ],
)
def test_a_cost_that_cannot_be_measured_is_a_line_and_measured_on_resume(tmp_path, monkeypatch, part, line, shown):
    with monkeypatch.context() as patch:
        patch.setattr(measuring, part, broken)
        patch.setattr(jobs, "latencies", broken)
        summary, printed = distil(tmp_path / "run")
    assert line in printed
    assert "latencies were not measured side by side: no way" in printed
    assert getattr(summary.runs[0]["student"].cost, shown) is None
    assert "-" in summary.cost_table().rows[0]
    assert summary.report.exists()
    weights = summary.student.read_bytes()
    again, printed = resume(tmp_path / "run")
    assert again.runs[0]["student"].cost.complete
    assert again.student.read_bytes() == weights
    assert "epoch" not in printed  # nothing is trained again
    _, printed = resume(tmp_path / "run")
    assert printed == ""


def test_a_report_that_cannot_be_written_is_a_line_and_written_on_resume(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "write_report", broken)
        summary, printed = distil(tmp_path / "run")
    assert f"warning: the report was not written: no way; `attar resume {tmp_path / 'run'}` writes it" in printed
    assert summary.student.exists()
    assert not summary.report.exists()
    again, _ = resume(tmp_path / "run")
    assert again.report.exists()


def test_a_teachers_cost_is_measured_again_too(tmp_path, monkeypatch):
    net = attar.create_model("resnet8", num_classes=10, in_channels=1, image_size=8)
    torch.save(net.state_dict(), tmp_path / "teacher.pth")
    teacher = {"name": "resnet8", "weights": str(tmp_path / "teacher.pth"), "precision": "float32"}
    with monkeypatch.context() as patch:
        patch.setattr(measuring, "macs", broken)
        summary, _ = distil(tmp_path / "run", teacher=teacher, method="kd")
    assert summary.teachers[0].cost.macs is None
    assert resume(tmp_path / "run")[0].teachers[0].cost.macs > 0


def test_a_disk_that_is_too_small_for_the_checkpoints_is_refused_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr("attar.files.free_space", lambda folder: 1000)
    with pytest.raises(AttarError, match=r"run needs about 2 MB, its disk has 0 MB free; make room, or choose another"):
        distil(tmp_path / "run")
    assert not (tmp_path / "run").exists()
