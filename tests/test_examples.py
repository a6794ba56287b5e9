"""The examples run as a user runs them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from attar.conformance import check_method
from attar.deploy.package import load
from attar.methods import registry as methods
from attar.registry import Registry

EXAMPLES = Path(__file__).parents[1] / "examples"


def loaded(name: str) -> ModuleType:
    """An example as a module of this process."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.usefixtures("forget")
def test_own_method_is_short_checked_drawn_and_run(attar, tmp_path: Path) -> None:
    file = EXAMPLES / "my_method.py"
    assert len(file.read_text().splitlines()) <= 30
    status, printed, errors = attar("methods", "cosine", "--import", file, "--svg", "cosine.svg")
    assert status == 0, errors
    assert "teacher -->" in printed
    assert printed.endswith("Drawing: cosine.svg\n")
    assert "5 x Cosine" in (tmp_path / "cosine.svg").read_text()
    status, printed, errors = attar(
        "distill", "method=cosine", "method.weight=2", "epochs=1", "teacher=resnet8", "teacher.epochs=1", "seeds=1",
        "teacher.train_size=100", "data.train_size=100", "alone=skip", "precision=float32", "compile=false", "jobs=1",
        "out=run", "--import", file,
    )  # fmt: skip
    assert status == 0, errors
    assert "resnet8 with cosine" in printed
    assert (tmp_path / "run" / "student.safetensors").exists()


def test_own_method_passes_the_conformance_suite(monkeypatch) -> None:
    monkeypatch.setattr(methods, "METHODS", Registry("method"))
    loaded("my_method")
    assert "deploys" in check_method("cosine")


@pytest.mark.usefixtures("forget")
def test_own_task_trains_resumes_and_reports(attar, tmp_path: Path) -> None:
    plugin = ["--import", EXAMPLES / "my_task.py"]
    keys = [
        "data=turned_digits",
        "data.train_size=200",
        "compile=false",
        "teacher=resnet8",
        "student=resnet8",
        "optim.name=adamw",
    ]
    keys += ["epochs=3", "batch_size=50", "alone=skip", "precision=float32", "jobs=1", "out=run"]
    status, printed, errors = attar("distill", *keys, *plugin)
    assert status == 0, errors
    assert "error, degrees" in printed
    scores = json.loads((tmp_path / "run" / "results.json").read_text())["runs"][0]["student"]["scores"]
    assert scores.keys() == {"count", "degrees", "apart"}
    assert 45 * scores["degrees"] < 22.4  # what zero everywhere has
    _, printed, errors = attar("evaluate", "run", *plugin)
    assert f"{45 * scores['degrees']:.2f}" in printed, errors
    assert "error, degrees" in (tmp_path / "run" / "report.html").read_text()
    np.save(tmp_path / "two.npy", np.zeros((2, 1, 8, 8)))
    angles = json.loads(attar("predict", "run", "two.npy", "--json", *plugin)[1])[0]["degrees"]
    assert angles == pytest.approx((45 * load(tmp_path / "run")(torch.zeros(2, 1, 8, 8)))[:, 0].tolist(), abs=0.01)
