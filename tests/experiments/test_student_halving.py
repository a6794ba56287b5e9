"""The search for a student by training: what fits is tried, the better half longer, the winner in full."""

import csv
import io
from functools import partial

import pytest
import torch
from rich.console import Console

import attar
from attar.errors import AttarError
from attar.experiments.student_halving import split_goal
from attar.models import create_model
from attar.profiling import Latency, suggest
from attar.recipe import read_recipe


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
    }  # fmt: skip
    goal = {"candidates": 2, "among": "resnet8,resnet14", "params": "1M", "within": 100}
    output = io.StringIO()
    found = attar.search(**keys, **goal, console=Console(file=output, width=200))
    assert {one.cost.name for one in found.tried} == {"resnet8", "resnet14"}
    assert [one.epochs for one in found.tried] == [1, 1]
    assert found.tried[0].cost.name == found.winner.recipe.student.name
    assert read_recipe(tmp_path / "search" / "winner" / "recipe.yaml").epochs == 4
    kept = {read_recipe(file).teacher.cache for file in (tmp_path / "search").glob("*/*/recipe.yaml")}
    assert kept == {str(tmp_path / "search" / "teacher-logits")}
    assert found.holds
    assert "points" in found.sentence()
    rows = list(csv.reader((tmp_path / "search" / "search.csv").read_text().splitlines()))
    assert [row[0].split()[0] for row in rows[1:]] == ["resnet20", *(one.cost.name for one in found.tried)]
    assert "round 1 of 2, 2 of 2" in output.getvalue()
    assert "The winner" in found.report.read_text(encoding="utf-8")
    again = attar.search(**keys, **goal, console=Console(file=io.StringIO()))
    assert again.winner.student == found.winner.student


def test_what_a_search_needs(teacher):
    with pytest.raises(AttarError, match="leave it out"):
        attar.search(teacher=teacher, student="resnet8")
    with pytest.raises(AttarError, match="needs a trained teacher"):
        attar.search(teacher="resnet14")
    with pytest.raises(AttarError, match="validation images"):
        attar.search(teacher=teacher, data={"name": "digits", "val_fraction": 0})
    with pytest.raises(AttarError, match="within=two: expected a number"):
        split_goal({"within": "two"})
