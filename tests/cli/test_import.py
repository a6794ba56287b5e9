"""--import on every command: a data set, a network, an optimiser and a format of one's own, from training to labels."""

import json
import re

import pytest

from attar.cli import app

MINE = """
import numpy as np
import torch
import attar
from attar.deploy.classifier import Classifier
from attar.models import create_model

@attar.register_dataset("halves", title="Halves of the digits", source="test", flip=False)
def halves(root, download, image_size):
    return attar.load_data("digits", val_fraction=0)

def build(num_classes, in_channels, **options):
    return create_model("resnet8", num_classes=num_classes, in_channels=in_channels, **options)

attar.register_model("tiny8", family="mine", description="resnet8 under another name", build=build)

@attar.register_optimiser("plain", title="SGD without momentum", lr=0.2)
def plain(parameters, optim):
    return torch.optim.SGD(parameters, lr=optim.lr)

def write(student, path):
    torch.save({"facts": student.facts, "net": student.net.state_dict()}, path)

def read(path):
    net = create_model("resnet8", num_classes=10, in_channels=1, image_size=8)
    net.load_state_dict(torch.load(path)["net"])
    return net.eval()

def classifier(path):
    net = read(path)
    def run(images):
        with torch.no_grad():
            return net(torch.from_numpy(images)).numpy()
    return Classifier(tuple("0123456789"), (1, 8, 8), 8, (0.3,), (0.4,), run)

attar.register_format("torch", suffix=".pt", title="torch.save", write=write, open=read, graph=False,
                      classifier=classifier)
"""
TINY = ["student=tiny8", "teacher=resnet8", "method=kd", "data=halves", "data.train_size=60", "batch_size=20",
        "epochs=1", "precision=float32", "optim.name=plain", "alone=skip", "out=run"]  # fmt: skip


def test_every_command_has_the_option():
    commands = {command.name or command.callback.__name__: command.callback for command in app.registered_commands}
    assert {"distill", "train", "bench", "evaluate", "export", "predict", "profile", "suggest", "report", "compare",
            "methods", "list", "resume", "replay", "check", "search"} == set(commands)  # fmt: skip
    assert all("plugins" in callback.__annotations__ for callback in commands.values())


def test_what_a_file_registers_works_in_every_command(attar, forget, tmp_path):
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "mine.py").write_text(MINE)
    status, _, err = attar("distill", *TINY, "--import", "mine.py")
    assert status == 0, err
    assert [entry["file"] for entry in json.loads((tmp_path / "run/imports.json").read_text())] == [
        str(tmp_path / "mine.py")
    ]
    image.new("L", (8, 8)).save(tmp_path / "0.png")

    unaided = ["export", "evaluate", "profile", "resume", "report", "predict"]
    for command in [[name, "run", *["0.png"] * (name == "predict")] for name in unaided]:
        forget()
        status, _, err = attar(*command)
        assert status == 2
        assert err.startswith("attar: unknown ")
        assert err.endswith("; this run imported mine.py; give --import mine.py\n")
        assert err.count("\n") == 1

    for command, shown in {
        ("export", "run", "safetensors", "torch"): "torch ",
        ("evaluate", "run"): "top-1 %",
        ("predict", "run", "0.png"): "0.png",
        ("predict", "run/export/student.pt", "0.png"): "0.png",
        ("profile", "run"): "77,754",
        ("resume", "run"): "Student: run/student.safetensors",
        ("report", "run"): "Report: run/report.html",
        ("list", "formats"): "torch.save",
        ("list", "networks", "tiny*"): "resnet8 under another name",
        ("train", "student=tiny8", *TINY[3:-1], "out=alone"): "Student: alone/student.safetensors",
    }.items():
        forget()
        status, out, err = attar(*command, "--import", "mine.py")
        assert status == 0, (command, err)
        assert shown in out
    assert (tmp_path / "run/export/student.pt").exists()


def test_list_shows_the_kinds_and_refuses_others(attar):
    status, out, _ = attar("list")
    assert status == 0
    assert "optim.schedule=" in out
    status, out, _ = attar("list", "optimisers", "adam*")
    assert status == 0
    assert "arXiv:1711.05101" in out
    assert "sgd" not in out
    status, _, err = attar("list", "format")
    assert (status, err) == (2, "attar: unknown kind 'format'; did you mean 'formats'?\n")


def test_list_has_the_data_of_tasks_and_names_the_other_networks(attar, monkeypatch):
    from attar.models.libraries.names import CONFIGS, FILES, GRAPHS, LIBRARIES
    from attar.tasks.registry import data_names

    monkeypatch.setenv("COLUMNS", "200")
    status, out, _ = attar("list", "datasets")
    assert status == 0
    assert [name for name in (*data_names(), "cifar100") if not re.search(rf"^ {name} ", out, re.M)] == []
    assert re.search(r"^ digit_mosaics +Mosaics of", out, re.M)
    status, out, _ = attar("list", "datasets", "se*")
    assert "of the task text" in out
    assert "cifar" not in out
    status, out, _ = attar("list", "networks", "resnet8")
    assert [start for start in (*LIBRARIES, *FILES, CONFIGS, GRAPHS) if start not in out] == []


def test_version(attar):
    import torch

    import attar as package

    status, out, _ = attar("--version")
    assert status == 0
    assert out.startswith(f"attar {package.__version__} (torch {torch.__version__}, Python 3.")
