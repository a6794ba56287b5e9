"""The examples run as a user runs them."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
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


def attar(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from attar.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


def loaded(name: str) -> ModuleType:
    """An example as a module of this process."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_own_method_is_short_checked_drawn_and_run(tmp_path: Path) -> None:
    file = EXAMPLES / "my_method.py"
    assert len(file.read_text().splitlines()) <= 30
    printed = attar("methods", "cosine", "--import", str(file), "--svg", "cosine.svg", cwd=tmp_path)
    assert printed.returncode == 0, printed.stderr
    assert "teacher -->" in printed.stdout
    assert "5 x Cosine" in (tmp_path / "cosine.svg").read_text()
    run = attar(
        "distill", "method=cosine", "method.weight=2", "epochs=1", "teacher=resnet8", "teacher.epochs=1", "seeds=1",
        "teacher.train_size=100", "data.train_size=100", "alone=skip", "precision=float32", "compile=false", "jobs=1",
        "out=run", "--import", str(file), cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "resnet8 with cosine" in run.stdout
    assert (tmp_path / "run" / "student.safetensors").exists()


def test_own_method_passes_the_conformance_suite(monkeypatch) -> None:
    monkeypatch.setattr(methods, "METHODS", Registry("method"))
    loaded("my_method")
    assert "deploys" in check_method("cosine")


def test_own_task_trains_resumes_and_reports(tmp_path: Path) -> None:
    plugin = ["--import", str(EXAMPLES / "my_task.py")]
    keys = [
        "data=turned_digits",
        "data.train_size=200",
        "compile=false",
        "teacher=resnet8",
        "student=resnet8",
        "optim.name=adamw",
    ]
    keys += ["epochs=3", "batch_size=50", "alone=skip", "precision=float32", "jobs=1", "out=run"]
    run = attar("distill", *keys, *plugin, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "error, degrees" in run.stdout
    scores = json.loads((tmp_path / "run" / "results.json").read_text())["runs"][0]["student"]["scores"]
    assert scores.keys() == {"count", "degrees", "apart"}
    assert 45 * scores["degrees"] < 22.4  # what zero everywhere has
    found = attar("evaluate", "run", *plugin, cwd=tmp_path)
    assert f"{45 * scores['degrees']:.2f}" in found.stdout, found.stderr
    assert "error, degrees" in (tmp_path / "run" / "report.html").read_text()
    np.save(tmp_path / "two.npy", np.zeros((2, 1, 8, 8)))
    angles = json.loads(attar("predict", "run", "two.npy", "--json", *plugin, cwd=tmp_path).stdout)[0]["degrees"]
    assert angles == pytest.approx((45 * load(tmp_path / "run")(torch.zeros(2, 1, 8, 8)))[:, 0].tolist(), abs=0.01)
