"""The search for a student by training: what fits is tried, the better half longer, the winner in full."""

import csv
import io
import json
import signal
import sys
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from torch import nn

import attar
from attar import plugins
from attar.errors import AttarError, Stopped
from attar.experiments import student_halving
from attar.experiments.student_halving import split_goal
from attar.models import create_model
from attar.models.registry import MODELS
from attar.profiling import Latency, suggest
from attar.recipe import read_recipe
from attar.report.search_page import ordered

NETS = """
import torch
from torch import nn

import attar


def teacher():
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 90), nn.ReLU(), nn.Linear(90, 10))


def small(num_classes, width=12):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, num_classes))


def smaller(num_classes):
    return small(num_classes, 6)


def data():
    return attar.load_data("digits", train_size=48, val_fraction=0.2)
"""
SMALL = {"batch_size": 24, "epochs": 4, "precision": "float32", "compile": False}


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """A module of the user's, and a clock that no other process disturbs."""
    (tmp_path / "nets_to_search.py").write_text(NETS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(plugins, "_imported", {})
    monkeypatch.setattr(MODELS, "_given", {})
    monkeypatch.setattr("attar.experiments.student_halving.suggest", partial(suggest, clock=by_size))
    sys.modules.pop("nets_to_search", None)
    import nets_to_search

    yield nets_to_search
    sys.modules.pop("nets_to_search", None)


@pytest.fixture
def teacher(tmp_path):
    torch.manual_seed(0)
    torch.save(create_model("resnet20", 10, 1, 8).state_dict(), tmp_path / "teacher.pth")
    return {"name": "resnet20", "weights": str(tmp_path / "teacher.pth")}


def by_size(net, shape, batch, most):
    """A clock that no other process disturbs."""
    return Latency(sum(parameter.numel() for parameter in net.parameters()) / 1e5, 0.0)


def test_candidates_are_tried_and_the_best_is_trained_in_full(teacher, tmp_path, monkeypatch):
    monkeypatch.setattr("attar.experiments.student_halving.suggest", partial(suggest, clock=by_size))
    keys = {
        "teacher": teacher, "data": {"name": "digits", "train_size": 60, "val_fraction": 0.2}, "batch_size": 30,
        "epochs": 4, "precision": "float32", "alone": "skip", "out": str(tmp_path / "search"), "compile": False,
        "optim": {"schedule": "cosine", "warmup": 2},
    }  # fmt: skip
    goal = {"candidates": 2, "among": "resnet8,resnet14", "params": "1M", "within": 100}
    output = io.StringIO()
    found = attar.search(**keys, **goal, console=Console(file=output, width=200))
    assert {one.cost.name for one in found.tried} == {"resnet8", "resnet14"}
    assert [one.epochs for one in found.tried] == [1, 1]
    assert found.tried[0].cost.name == found.winner.recipe.student.name
    winner = read_recipe(tmp_path / "search" / "winner" / "recipe.yaml")
    assert (winner.epochs, winner.optim.warmup) == (4, 2)
    assert {read_recipe(file).optim.warmup for file in (tmp_path / "search" / "round1").glob("*/recipe.yaml")} == {0.5}
    kept = {read_recipe(file).teacher.cache for file in (tmp_path / "search").glob("*/*/recipe.yaml")}
    assert kept == {str(tmp_path / "search" / "teacher-logits")}
    choices = json.loads((tmp_path / "search" / "choices.json").read_text())
    (chosen,) = [choice for name, choice in choices.items() if name.startswith("engine 1")]
    records = [json.loads(file.read_text()) for file in (tmp_path / "search").glob("*/*/environment.json")]
    assert [record["runtime"]["teachers"] for record in records] == [[chosen]] * 2
    assert found.holds
    assert "points" in found.sentence()
    rows = list(csv.reader((tmp_path / "search" / "search.csv").read_text().splitlines()))
    assert [row[0].split()[0] for row in rows[1:]] == ["resnet20", *(one.cost.name for one in found.tried)]
    assert "round 1 of 2, 2 of 2" in output.getvalue()
    assert output.getvalue().startswith("digits: 8x8 grey images, 10 classes\ntrain: ")
    page = found.report.read_text(encoding="utf-8")
    assert "<b>Top-1 against latency</b><span>up and to the left is better</span>" in page
    assert "The winner" in page
    assert "Distilled - teacher" not in page
    again = attar.search(**keys, **goal, console=Console(file=io.StringIO()))
    assert again.winner.student == found.winner.student


def test_candidates_cost_what_they_cost_at_the_size_they_see(teacher, monkeypatch):
    asked = {}

    def looked(net, **keywords):
        asked.update(keywords)
        raise AttarError("enough")

    monkeypatch.setattr("attar.experiments.student_halving.suggest", looked)
    with pytest.raises(AttarError, match="enough"):
        attar.search(teacher=teacher, student={"options": {"input_size": 4}}, data={"name": "digits", "train_size": 60})
    assert (asked["image_size"], asked["teacher_size"]) == (4, 8)


def test_latencies_of_a_busy_machine_are_named(teacher, monkeypatch):
    def busy(net, shape, batch, most):
        return Latency(1.0, 5.0)

    monkeypatch.setattr("attar.experiments.student_halving.suggest", partial(suggest, clock=busy))
    output = io.StringIO()
    keys = {"teacher": teacher, "data": {"name": "digits", "train_size": 60}, "among": "resnet8", "latency": "0.5ms"}
    with pytest.raises(AttarError, match="no network fits the budget"):
        attar.search(**keys, console=Console(file=output, width=300))
    assert "warning: 2 of the latencies spread widely: something else was running" in output.getvalue()


def test_what_a_search_needs(teacher):
    with pytest.raises(AttarError, match="leave it out"):
        attar.search(teacher=teacher, student="resnet8")
    with pytest.raises(AttarError, match="needs a trained teacher"):
        attar.search(teacher="resnet14")
    with pytest.raises(AttarError, match="validation images"):
        attar.search(teacher=teacher, data={"name": "digits", "val_fraction": 0})
    with pytest.raises(AttarError, match="within=two: expected a number"):
        split_goal({"within": "two"})
    assert split_goal({"within": None, "latency": None, "teacher": "resnet56"})[1] == {"teacher": "resnet56"}


@pytest.mark.slow
def test_networks_and_data_may_be_objects_and_a_search_that_was_stopped_goes_on(nets, tmp_path, monkeypatch):
    candidates = [nets.small(10), nets.smaller(10), nets.small(10, 9)]
    objects = {"teacher": nets.teacher(), "data": nets.data(), "among": candidates}

    def looked_for(folder):
        console = Console(file=io.StringIO(), width=200)
        return attar.search(**objects, **SMALL, out=str(tmp_path / folder), console=console), console.file.getvalue()

    whole, output = looked_for("whole")
    assert "3 candidates: Sequential, Sequential3, Sequential2" in output
    assert {one.name for one in (tmp_path / "whole" / "round1").iterdir()} == {
        "Sequential", "Sequential2", "Sequential3"
    }  # fmt: skip
    assert whole.teacher.name == "Sequential"
    assert {"Sequential", "Sequential2", "Sequential3"} >= {row[0].strip(" *") for row in whole.table().rows}
    run = student_halving._Halving._run
    seen = []

    def stopping(self, recipe, console):
        seen.append(recipe.out)
        if len(seen) == 3:
            signal.raise_signal(signal.SIGTERM)
        return run(self, recipe, console)

    monkeypatch.setattr(student_halving._Halving, "_run", stopping)
    previous = signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(Stopped("")))
    try:
        with pytest.raises(Stopped):
            looked_for("parted")
    finally:
        signal.signal(signal.SIGTERM, previous)
    again, _ = looked_for("parted")
    assert [one.value for one in again.tried] == [one.value for one in whole.tried]
    assert again.winner.student.read_bytes() == whole.winner.student.read_bytes()


def test_functions_of_a_module_are_names(nets, tmp_path):
    console = Console(file=io.StringIO(), width=200)
    keys = {"teacher": nets.teacher, "data": "nets_to_search:data", "out": str(tmp_path / "search"), **SMALL}
    found = attar.search(**keys, among=[nets.small, "nets_to_search:smaller"], params="1M", console=console)
    assert {one.cost.name for one in found.tried} == {"nets_to_search:small", "nets_to_search:smaller"}
    recipe = read_recipe(tmp_path / "search" / "winner" / "recipe.yaml")
    assert (recipe.teacher.name, recipe.data.name) == ("nets_to_search:teacher", "nets_to_search:data")
    with pytest.raises(AttarError, match="was trained with other epochs; give the same keys to go on, or another out="):
        attar.search(**{**keys, "epochs": 8}, among=nets.small, console=console)


def test_settings_that_nobody_gave_are_chosen_as_for_a_run(nets, tmp_path):
    output = io.StringIO()
    keys = {"teacher": nets.teacher, "data": nets.data, "out": str(tmp_path / "search"), "epochs": 1}
    terminal = Console(file=output, force_terminal=True, color_system=None, width=200)
    attar.search(**keys, among=[nets.smaller], console=terminal)
    assert "chosen: lr 0.013, batch 8, for 48 samples to train on" in output.getvalue()
    first = output.getvalue().split("round 1 of")[1].split("is trained in full")[0]
    assert "kd ━" in first  # a candidate's training moves, and has no lines
    assert "kd: epoch" not in first
    assert read_recipe(tmp_path / "search" / "winner" / "recipe.yaml").batch_size == 8


def test_what_cannot_be_a_candidate_is_one_line(nets, tmp_path):
    keys = {"teacher": nets.teacher, "data": nets.data, "out": str(tmp_path / "search")}
    with pytest.raises(AttarError, match="among: expected names, functions or networks, got int"):
        attar.search(**keys, among=[3])
    with pytest.raises(AttarError, match="<lambda> stands in no module"):
        attar.search(**keys, among=[lambda: nn.Flatten()])
    with pytest.raises(AttarError, match="no network fits the budget"):
        attar.search(**keys, among=[nets.teacher])
    with pytest.raises(AttarError, match=r"times the budget: \S*smaller: params 46\.00x\)"):
        attar.search(**keys, among=[nets.smaller], params="10")


def test_of_candidates_that_are_equal_the_smallest_is_first():
    def tried(epochs, value, parameters):
        return SimpleNamespace(epochs=epochs, value=value, cost=SimpleNamespace(parameters=parameters))

    large, small, short, worse = tried(3, 40.5, 200), tried(3, 40.5, 100), tried(2, 50.0, 10), tried(3, 40.0, 1)
    found = ordered([large, small, short, worse], SimpleNamespace(higher=True))
    assert found == (small, large, worse, short)


def test_a_candidate_that_fails_does_not_end_the_search(nets, tmp_path, monkeypatch):
    run = student_halving._Halving._run

    def failing(self, recipe, console):
        if recipe.student.name.endswith("smaller"):
            raise AttarError("the loss of the first batch is nan")
        return run(self, recipe, console)

    monkeypatch.setattr(student_halving._Halving, "_run", failing)
    console = Console(file=io.StringIO(), width=200)
    keys = {"teacher": nets.teacher, "data": nets.data, "console": console, "params": "1M", **SMALL}
    found = attar.search(**keys, among=[nets.small, nets.smaller], out=str(tmp_path / "search"))
    assert [one.cost.name for one in found.tried] == ["nets_to_search:small"]
    assert "    failed: the loss of the first batch is nan" in console.file.getvalue()
    with pytest.raises(AttarError, match="the loss of the first batch is nan"):
        attar.search(**keys, among=[nets.smaller], out=str(tmp_path / "none"))


def test_a_bound_that_is_no_number_is_refused(nets, tmp_path):
    with pytest.raises(AttarError, match="within=nan: give a number of points"):
        attar.search(teacher=nets.teacher, data=nets.data, among=[nets.small], within=float("nan"), **SMALL)
