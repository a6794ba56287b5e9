"""A run goes on with the data and the weights that it began with, or not at all; a finished one stays as it is."""

import io
import json

import pytest
import torch
from rich.console import Console

import attar
from attar.cli.measure import data_keys
from attar.errors import AttarError
from attar.experiments import launch
from attar.recipe import read_recipe

image = pytest.importorskip("PIL.Image")


def weights(file, seed):
    torch.manual_seed(seed)
    net = attar.create_model("resnet14", num_classes=2, in_channels=3, image_size=8)
    torch.save(net.state_dict(), file)


def photos(folder, darker=False):
    """24 images of two classes; `darker` exchanges which class is dark."""
    for number in range(24):
        name = ("a", "b")[number % 2]
        (folder / name).mkdir(parents=True, exist_ok=True)
        shade = number + (200 if (name == "a") != darker else 0)
        image.new("RGB", (8, 8), (shade,) * 3).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture
def run(tmp_path):
    """A finished run on a folder of images."""
    photos(tmp_path / "photos")
    weights(tmp_path / "teacher.pth", 1)
    recipe = read_recipe(
        teacher={"name": "resnet14", "weights": str(tmp_path / "teacher.pth")},
        student="resnet8",
        data={"name": str(tmp_path / "photos"), "image_size": 8},
        epochs=1,
        batch_size=8,
        precision="float32",
        out=str(tmp_path / "run"),
    )
    launch.start(recipe, Console(file=io.StringIO()))
    return tmp_path / "run"


def resume(folder, **options):
    console = Console(file=io.StringIO(), width=200)
    summary = launch.resume(folder, console, **options)
    return summary, console.file.getvalue()


def test_other_teacher_weights_are_refused_until_they_are_accepted(run):
    before = json.loads((run / "inputs.json").read_text())
    (run / "scores.json").unlink()
    weights(run.parent / "teacher.pth", 2)
    with pytest.raises(AttarError, match=r"began with other weights of teacher; put them back, .* --accept-changes"):
        resume(run)
    nll = json.loads((run / "teacher" / "scores.json").read_text())["results"][0]["scores"]["nll"]
    summary, printed = resume(run, accept_changes=True)
    assert "going on with other weights of teacher" in printed
    assert summary.teachers[0].scores["nll"] != nll
    assert json.loads((run / "inputs.json").read_text())["weights of teacher"] != before["weights of teacher"]
    assert resume(run)[0].teachers[0].scores["nll"] == summary.teachers[0].scores["nll"]


@pytest.mark.parametrize("change", [pytest.param("deleted", marks=pytest.mark.slow), "moved"])
def test_other_images_are_refused(run, change):
    (run / "scores.json").unlink()
    place = run.parent / "photos" / "a"
    for file in sorted(place.iterdir())[:3]:
        file.unlink() if change == "deleted" else file.rename(run.parent / "photos" / "b" / file.name)
    with pytest.raises(AttarError, match="began with other training images"):
        resume(run)


def test_the_same_inputs_go_on(run):
    (run / "scores.json").unlink()
    assert "other" not in resume(run)[1]


def test_resuming_a_finished_run_measures_and_writes_nothing(run):
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    (run.parent / "photos").rename(run.parent / "elsewhere")
    summary, _ = resume(run)
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before
    assert summary.sentence() == json.loads((run / "results.json").read_text())["sentence"]


def test_a_damaged_result_is_made_again(run):
    (run / "results.json").write_text('{"runs": [3]}')
    resume(run)
    assert json.loads((run / "results.json").read_text())["runs"][0]["student"]["name"] == "student"


def test_evaluate_and_export_use_the_folder_that_is_named(run, monkeypatch):
    other = photos(run.parent / "other", darker=True)
    here, there = attar.evaluate(run), attar.evaluate(run, root=str(other))
    assert there == attar.evaluate(run, name=str(other))
    assert there["nll"] != here["nll"]
    assert attar.evaluate(run, **data_keys([f"data.root={other}", "data.image_size=8"])) == there
    tested = []
    monkeypatch.setattr(
        "attar.experiments.exporting.export_student", lambda student, *_: tested.append(student.test) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        attar.export(run, data={"root": str(other)})
    assert tested[0].fingerprint == attar.data.load_data(str(other), image_size=8, val_fraction=0).test.fingerprint


def test_a_folder_that_moved_is_one_line_and_found_where_it_is_now(run):
    expected = attar.evaluate(run)
    (run.parent / "photos").rename(run.parent / "elsewhere")
    with pytest.raises(AttarError, match=r"the images are not in .*photos; give data.root=FOLDER"):
        attar.evaluate(run)
    assert attar.evaluate(run, root=str(run.parent / "elsewhere")) == expected


def test_a_data_set_is_named_as_in_a_recipe():
    assert data_keys(["data=cifar10", "data.root=here", "image_size=8"]) == {
        "name": "cifar10", "root": "here", "image_size": 8,
    }  # fmt: skip
