"""Objects and functions in place of a recipe's names: they train, and a run whose factories have names resumes."""

from __future__ import annotations

import io
import sys

import pytest
import torch
from rich.console import Console
from torch import nn

import attar
from attar import plugins
from attar.choices import OPTIMISERS, SCHEDULES
from attar.data.transforms.registry import AUGMENTATIONS
from attar.experiments.given_objects import take_parts
from attar.metrics import Measure, MetricInfo
from attar.metrics.registry import METRICS
from attar.models.registry import MODELS
from attar.recipe import read_recipe
from attar.track.tracker import TRACKERS

TABLES = (OPTIMISERS, SCHEDULES, AUGMENTATIONS, METRICS, MODELS, TRACKERS)

PARTS = """
import signal

import torch
from torch import nn

import attar
from attar.metrics import Measure, MetricInfo

epochs, stop = [], False


def teacher():
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def student(num_classes, width=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, num_classes))


def data(train_size=40):
    return attar.load_data("digits", train_size=train_size)


def rms(parameters, optim):
    return torch.optim.RMSprop(parameters, lr=optim.lr)


def half(done, optim):
    if stop and done >= 0.5:
        signal.raise_signal(signal.SIGTERM)
    return 1.0 - done / 2


def darken(images, numbers, value):
    return (images / (1 + (value - 1) * numbers[:, :, None, None])).to(torch.uint8)


def sums(output, batch):
    best = output.softmax(1).amax(1)
    return {"sure": best.sum(), "seen": best.new_tensor(len(best))}


sureness = MetricInfo(Measure("sureness", "sure %", 100), sums, lambda sums: float(sums["sure"] / sums["seen"]))


def callback(subject, epoch):
    epochs.append((subject.name, epoch.number))
"""
SMALL = {"epochs": 2, "batch_size": 20, "precision": "float32", "alone": "skip", "jobs": 1}


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """A module of the user's, new for each test, and tables that are as before afterwards."""
    (tmp_path / "parts_of_mine.py").write_text(PARTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(plugins, "_imported", {})
    for table in TABLES:
        monkeypatch.setattr(table, "_entered", dict(table._records))
    sys.modules.pop("parts_of_mine", None)
    import parts_of_mine

    yield parts_of_mine
    sys.modules.pop("parts_of_mine", None)


def distill(folder, **values):
    return attar.distill(**{**SMALL, "out": str(folder), **values}, console=Console(file=io.StringIO()))


def whole(parts):
    """Everything of a run as functions."""
    return {
        "teacher": parts.teacher,
        "student": parts.student,
        "data": {"name": "parts_of_mine:data", "augment": {parts.darken: 2.0}},
        "optim": {"name": parts.rms, "schedule": parts.half, "lr": 0.01},
        "metrics": "parts_of_mine:sureness",
        "track": parts.callback,
    }


def test_functions_of_a_module_are_kept_by_name_and_the_run_resumes_from_its_folder(parts, tmp_path, monkeypatch):
    expected = distill(tmp_path / "whole", **whole(parts))
    assert parts.epochs == [("student", 1), ("student", 2)]
    recipe = read_recipe(expected.folder / "recipe.yaml")
    assert (recipe.teacher.name, recipe.student.name) == ("parts_of_mine:teacher", "parts_of_mine:student")
    assert (recipe.optim.name, recipe.optim.schedule) == ("parts_of_mine:rms", "parts_of_mine:half")
    assert recipe.data.augment == {"parts_of_mine:darken": 2.0}

    parts.stop = True
    with pytest.raises(attar.errors.Stopped):
        distill(tmp_path / "parted", **whole(parts))
    parts.stop = False
    monkeypatch.setattr(plugins, "_imported", {})  # as in another process
    for table in TABLES:
        for name in [name for name in table if name.startswith("parts_of_mine")]:
            del table._entered[name]
    with pytest.raises(attar.AttarError, match=r"was not imported; give --import parts_of_mine"):
        attar.resume(tmp_path / "parted", console=Console(quiet=True))
    found = attar.resume(tmp_path / "parted", console=Console(quiet=True), imports=["parts_of_mine"])
    assert found.student.read_bytes() == expected.student.read_bytes()
    assert 0 < found.runs[0]["student"].scores["sureness"] <= 1
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(attar.load(found.folder)(images), attar.load(expected.folder)(images))


def test_objects_that_stand_in_no_module_train_and_say_that_they_cannot_be_resumed(parts, tmp_path):
    seen = []

    metric = MetricInfo(Measure("sureness", "sure %", 100), parts.sums, lambda sums: float(sums["sure"] / sums["seen"]))
    run = distill(
        tmp_path / "run",
        teacher=parts.teacher(),
        student=nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
        data="parts_of_mine:data",
        optim={"name": torch.optim.Rprop, "lr": 0.01, "schedule": lambda done, optim: 1.0},
        metrics=[metric],
        track=[lambda subject, epoch: seen.append(epoch.values["loss"])],
    )
    assert len(seen) == 2
    assert 0 < run.runs[0]["student"].scores["sureness"] <= 1
    recipe = (run.folder / "recipe.yaml").read_text()
    assert "name: torch.optim.rprop:Rprop" in recipe
    with pytest.raises(attar.AttarError, match="was an object in Python"):
        attar.resume(run.folder)


def test_an_optimiser_that_refuses_its_settings_does_so_before_anything_is_written(tmp_path):
    class Fussy(torch.optim.SGD):
        def __init__(self, params, lr):
            raise ValueError("no")

    with pytest.raises(attar.AttarError, match=r"optim\.name=Fussy does not take lr=0\.1"):
        distill(tmp_path / "run", teacher="resnet8", student="resnet8", data="digits", optim={"name": Fussy, "lr": 0.1})
    assert not (tmp_path / "run").exists()


def test_every_function_without_a_name_of_its_own_is_found_by_one():
    callbacks, augments = ([lambda *_, one=one: seen.append(one) for one in group] for group in ("ab", "cd"))
    seen = []
    values, names = take_parts(
        {"track": callbacks, "data": {"name": "digits", "augment": dict.fromkeys(augments, 1.0)}}
    )
    for name in values["track"]:
        (tracker := TRACKERS[name].make()).start(None, 0)
        tracker.epoch(None)
    assert seen == ["a", "b"]
    assert [AUGMENTATIONS[name].change for name in values["data"]["augment"]] == augments
    assert len(set(names)) == 4


def test_a_recipe_imports_nothing_by_itself(parts, tmp_path):
    (tmp_path / "recipe.yaml").write_text("student: subprocess:run\nmethod: supervised\n")
    with pytest.raises(attar.AttarError, match="of the module subprocess, which was not imported"):
        attar.distill(tmp_path / "recipe.yaml", out=str(tmp_path / "run"))


def test_a_function_that_is_nowhere_is_refused():
    with pytest.raises(attar.AttarError, match="<lambda> stands in no module"):
        attar.distill(student=lambda: nn.Flatten())
    with pytest.raises(attar.AttarError, match=r"module 'nowhere_at_all' cannot be imported: ModuleNotFoundError"):
        attar.distill(student="nowhere_at_all:net")
    with pytest.raises(attar.AttarError, match="module 'torch' has no 'nothing_of_this', which"):
        attar.distill(student="torch:nothing_of_this", method="supervised")
