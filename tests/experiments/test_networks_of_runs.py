"""teacher=RUN and student=RUN take what a run deployed."""

from __future__ import annotations

import io
import json
import shutil

import pytest
import torch
from rich.console import Console

import attar
from attar.errors import AttarError
from attar.experiments.baseline import trained_with
from attar.experiments.launch import prepare
from attar.experiments.networks_of_runs import with_networks_of_runs
from attar.recipe import read_recipe

SMALL = {"data": {"name": "digits", "train_size": 40}, "epochs": 1, "batch_size": 20, "precision": "float32", "jobs": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first"
    student = {"name": "resnet8", "options": {"input_size": 6}}
    attar.train_model(student=student, out=str(folder), seeds=2, **SMALL)
    return folder


def test_it_teaches_and_begins_with_the_runs_weights(run, tmp_path):
    recipe = read_recipe(
        teacher=str(run), student=str(run), method="kd", alone="skip", out=str(tmp_path / "kd"), **SMALL
    )
    job = prepare(recipe)
    assert (job.recipe.teacher.name, job.recipe.teacher.options) == ("resnet8", {"input_size": 6})
    assert job.recipe.student.weights == str(run / "seed0" / "student.safetensors")
    kept = attar.load(run / "seed0").state_dict()
    for net in (job.teachers[0], job.parts.student(0)):
        assert all(torch.equal(net.state_dict()[key], value) for key, value in kept.items())
    assert not job.teacher_trainings
    summary = attar.distill(
        teacher=str(run), student="resnet8", method="kd", alone="skip", out=str(tmp_path / "run"), **SMALL
    )
    assert summary.recipe.teacher.weights == str(run / "seed0" / "student.safetensors")
    assert attar.resume(tmp_path / "run").recipe == summary.recipe


def test_a_librarys_network_teaches_and_begins_as_the_run_left_it(tmp_path):
    pytest.importorskip("timm")
    name = "timm/test_resnet"
    attar.train_model(student=name, out=str(tmp_path / "first"), seed=1, **SMALL)
    recipe = read_recipe(
        teacher=str(tmp_path / "first"), student=str(tmp_path / "first"), out=str(tmp_path / "kd"), **SMALL
    )
    job = prepare(recipe)
    assert (job.recipe.teacher.name, job.recipe.student.name) == (name, name)
    kept = attar.load(tmp_path / "first").state_dict()
    for net in (job.teachers[0], job.parts.student(0)):
        assert all(torch.equal(net.state_dict()[key], value) for key, value in kept.items())


def test_two_runs_are_two_teachers(run):
    recipe = read_recipe(teacher=f"{run / 'seed0'},{run / 'seed1'}", student="resnet8", method="averkd", **SMALL)
    first, second = prepare(recipe).teachers
    assert not torch.equal(next(first.parameters()), next(second.parameters()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": {"name": "RUN", "weights": "x.pth"}}, "brings its own weights; leave teacher.weights out"),
        ({"teacher": "RUN,resnet8"}, "give runs or names of networks, not both"),
        ({"teacher": "EMPTY"}, "holds no run"),
        ({"teacher": "RUN/nothing"}, "nothing: there is no such folder; give that of a run"),
    ],
)
def test_mistakes_are_one_line(run, tmp_path, changes, message):
    (tmp_path / "empty").mkdir()
    text = repr(changes).replace("RUN", str(run)).replace("EMPTY", str(tmp_path / "empty"))
    with pytest.raises(AttarError, match=message):
        prepare(read_recipe(student="resnet8", method="kd", **SMALL, **eval(text)))


@pytest.mark.parametrize("spec", [{"kind": "adapted"}, {"kind": "adapted", "network": {"image_size": 8}}])
def test_a_damaged_description_is_one_line(run, tmp_path, spec):
    shutil.copytree(run / "seed0", tmp_path / "seed0")
    card = tmp_path / "seed0" / "student.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "spec": spec}))
    with pytest.raises(AttarError, match=r"cannot read .*student\.json"):
        with_networks_of_runs(read_recipe(teacher=str(tmp_path / "seed0"), student="resnet8", method="kd", **SMALL))


def test_an_earlier_baseline_of_another_test_set_is_refused_and_of_another_training_named(tmp_path):
    said = io.StringIO()
    common = {"student": "resnet8", "teacher": "resnet8", "method": "kd", **SMALL}
    attar.train_model(student="resnet8", out=str(tmp_path / "first"), **SMALL)
    baseline = {"alone": str(tmp_path / "first")}
    prepare(read_recipe(**{**common, "epochs": 2}, **baseline), Console(file=said, width=200))
    assert "warning: alone=" in said.getvalue()
    assert "was trained with epochs=1 (here 2): the gain is not the method's alone" in said.getvalue()
    said.truncate(0)
    prepare(read_recipe(**common, **baseline), Console(file=said, width=200))
    assert "was trained with" not in said.getvalue()
    inputs = tmp_path / "first" / "inputs.json"
    inputs.write_text(inputs.read_text().replace('"test images": "', '"test images": "0'))
    with pytest.raises(AttarError, match="was scored on another test set; give alone=train"):
        prepare(read_recipe(**common, **baseline))


def test_a_folder_is_the_same_training_data_however_it_was_given():
    given = ({"name": "folder", "root": "data/photos"}, "data/photos", {"name": "folder", "root": "elsewhere/photos"})
    one, *others = (trained_with(read_recipe(student="resnet8", data=data)) for data in given)
    assert others == [one, one]
    assert trained_with(read_recipe(student="resnet8", data="data/other")) != one
