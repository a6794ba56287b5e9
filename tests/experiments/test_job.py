"""A job builds each thing once, in the right order."""

import io
import json
import shutil

import pytest
import torch
from rich.console import Console
from torch import nn

import attar
from attar.errors import AttarError, Stopped
from attar.experiments import job as jobs
from attar.experiments import launch
from attar.experiments import training as trainings
from attar.experiments.build import SEEDS_APART, build
from attar.experiments.job import Job
from attar.experiments.runtime_record import read_runtime
from attar.methods.kd import KD
from attar.models import Tapped, fingerprint
from attar.recipe import ModelRecipe, read_recipe

VALUES = {
    "teacher": {"name": "resnet14", "epochs": 1, "precision": "float32"},
    "student": "resnet8",
    "data": {"name": "digits", "train_size": 40},
    "epochs": 1,
    "batch_size": 20,
    "precision": "float32",
}


def recipe(folder, **values):
    return read_recipe(**{**VALUES, **values}, out=str(folder))


def distil(folder, **values):
    return launch.start(recipe(folder, **values), Console(file=io.StringIO()))


def weights(folder):
    """A file of random weights for the teacher."""
    net = attar.create_model("resnet14", num_classes=10, in_channels=1, image_size=8)
    torch.save(net.state_dict(), folder / "teacher.pth")
    return {"name": "resnet14", "weights": str(folder / "teacher.pth")}


@pytest.fixture
def compared(monkeypatch):
    """The fingerprints of the weights that engines were compared with."""
    found, choose = [], trainings.choose_engines

    def spied(method, *arguments):
        found.extend(fingerprint(frozen.module) for frozen in method.frozen())
        return choose(method, *arguments)

    monkeypatch.setattr(trainings, "choose_engines", spied)
    return found


def test_engines_are_compared_with_the_trained_teacher(tmp_path, compared):
    distil(tmp_path / "run")
    assert compared == [fingerprint(attar.load(tmp_path / "run" / "teacher"))]


def test_a_job_that_stopped_before_it_chose_engines_chooses_them_once(tmp_path, compared):
    distil(tmp_path / "run")
    record = tmp_path / "run" / "environment.json"
    tree = json.loads(record.read_text())
    assert tree["runtime"]["teachers"] == [{"kind": "folded", "dtype": "float32", "cut": False}]
    del tree["runtime"]["teachers"]
    record.write_text(json.dumps(tree))
    for _ in range(2):
        shutil.rmtree(tmp_path / "run" / "alone")
        (tmp_path / "run" / "report.html").unlink()  # a finished run is read, and chooses nothing
        launch.resume(tmp_path / "run", Console(file=io.StringIO()))
    assert len(compared) == 2
    assert json.loads(record.read_text())["runtime"]["teachers"][0]["kind"] == "folded"


def test_the_record_of_an_earlier_version_is_read(tmp_path):
    runtime = {"precision": "bfloat16", "reason": "", "teachers": ["folded bfloat16, cut"]}
    (tmp_path / "environment.json").write_text(json.dumps({"runtime": runtime}))
    found, complete = read_runtime(tmp_path, torch.device("cpu"))
    assert (found.precision, found.jobs, complete) == ("bfloat16", 1, True)
    assert str(found.teachers[0]) == "folded bfloat16, cut"


@pytest.mark.parametrize("trained", [pytest.param(False, marks=pytest.mark.slow), True])
def test_methods_and_teachers_are_built_once(tmp_path, monkeypatch, trained):
    built, create, copied = [], jobs.create_method, []
    monkeypatch.setattr(jobs, "create_method", lambda name, **nets: built.append(name) or create(name, **nets))
    copy_of = jobs.copied
    monkeypatch.setattr(jobs, "copied", lambda net: copied.append(net) or copy_of(net))
    distil(tmp_path / "run", seeds=2, **({} if trained else {"teacher": weights(tmp_path)}))
    # Before a teacher without weights is trained, the first seed's method tries a batch with the untrained one.
    assert sorted(built) == sorted(["kd", "supervised"] * 2 + ["kd", "supervised"] * trained)
    assert len(copied) == trained


def test_every_seed_holds_the_same_frozen_teacher(tmp_path):
    job = Job(recipe(tmp_path, seeds=2, teacher=weights(tmp_path)), tmp_path, Console(file=io.StringIO()))
    methods = [job.training(seed).method for seed in job.seeds]
    assert methods[0] is job.training(0).method
    assert all(method.teacher.module is job.teachers[0] for method in methods)
    assert methods[0].student.module is not methods[1].student.module


class Moving(KD):
    """Trains its teacher."""

    def __init__(self, teacher: nn.Module, student: nn.Module) -> None:
        super().__init__(teacher, student)
        self.moving = Tapped(teacher.requires_grad_(True))


def test_a_method_that_trains_its_teacher_gets_a_copy(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "create_method", lambda name, **nets: Moving(nets["teacher"][0], nets["student"]))
    job = Job(recipe(tmp_path, teacher=weights(tmp_path)), tmp_path, Console(file=io.StringIO()))
    moving = job.training(0).method.moving.module
    assert moving is not job.teachers[0]
    assert fingerprint(moving) == fingerprint(job.teachers[0])


def test_two_teachers_of_one_name_are_two_networks(tmp_path):
    job = Job(recipe(tmp_path, teacher={"name": "resnet8,resnet8"}), tmp_path, Console(file=io.StringIO()))
    assert [one.recipe.seed for one in job.teacher_trainings.values()] == [10_000, 20_000]
    assert len({fingerprint(net) for net in job.teachers}) == 2
    assert [one.title for one in job.teacher_trainings.values()] == ["teacher resnet8", "teacher 2 resnet8"]


def test_a_teacher_of_fewer_epochs_than_the_warm_up_has_the_same_part_of_it(tmp_path):
    optim = {"schedule": "cosine", "warmup": 2}
    job = Job(recipe(tmp_path, epochs=8, optim=optim), tmp_path, Console(file=io.StringIO()))
    assert [one.recipe.optim.warmup for one in job.teacher_trainings.values()] == [0.25]
    assert job.training(0).recipe.optim.warmup == 2


@pytest.mark.parametrize(
    ("values", "apart"),
    [
        ({"teacher": "resnet8"}, [1]),
        ({"teacher": "resnet8,resnet8"}, [1, 2]),
        ({"teacher": "resnet14"}, [0]),
        ({"teacher": {"name": "resnet8", "options": {"widths": [8, 16, 32]}}}, [0]),
    ],
)
def test_no_teacher_of_a_run_starts_as_its_student_does(tmp_path, values, apart):
    job = Job(recipe(tmp_path, **values), tmp_path, Console(file=io.StringIO()))
    student = job.parts.student(0)
    assert fingerprint(student) not in {fingerprint(net) for net in job.teachers}
    assert fingerprint(student) == fingerprint(build(ModelRecipe("resnet8"), job.splits, 0))
    assert [one.recipe.seed for one in job.teacher_trainings.values()] == [number * SEEDS_APART for number in apart]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optim": {"name": "dot", "lr": "auto"}}, "optim.lr=auto is not for optim.name=dot"),
        (
            {"teacher": {"name": "resnet14", "cache": "cache", "cache_top": 20}},
            "teacher.cache_top must be 1 to 9, got 20",
        ),
        ({"optim": {"lr": 0.05, "min_lr": 1.0}}, "optim.min_lr, where schedules end, is 1.0, above optim.lr, 0.05"),
    ],
)
def test_what_cannot_be_is_found_before_the_teacher_is_trained(tmp_path, values, message):
    with pytest.raises(AttarError, match=message):
        distil(tmp_path / "run", **values)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("place", ["_runtime", "_report"])
def test_an_interruption_outside_the_training_says_how_to_go_on(tmp_path, monkeypatch, place):
    teacher = weights(tmp_path)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Job, place, interrupted)
        with pytest.raises(Stopped, match=str(tmp_path / "run")):
            distil(tmp_path / "run", teacher=teacher, alone="skip")
    assert launch.reopen(tmp_path / "run", Console(file=io.StringIO())).run().runs
    with monkeypatch.context() as patched:
        patched.setattr(Job, "_run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            distil(tmp_path / "other", teacher=teacher, alone="skip")
