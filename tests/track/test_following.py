"""A tracker hears every epoch once, with the values of metrics.jsonl, and the training does not know it."""

import io
import json
import random
import signal
from pathlib import Path

import pytest
import torch
from rich.console import Console

from attar.distributed.team import Team
from attar.errors import AttarError, Stopped
from attar.experiments import launch
from attar.experiments import training as run
from attar.recipe import read_recipe
from attar.tasks import Classification
from attar.track import Tracking, following, register_tracker
from attar.train.progress import Progress
from attar.train.running_means import RunningMeans
from sweeps import first_of


def passed_on(kept):
    """Numbers and values without the speed, which metrics.jsonl does not have."""
    return [(e.number, {k: v for k, v in e.values.items() if k != "images_per_second"}) for e in kept["epochs"]]


def outcome(folder):
    return [(folder / name).read_bytes() for name in ("student.safetensors", "metrics.jsonl")]


@pytest.fixture(scope="module")
def untracked(tmp_path_factory, small):
    """What a run without trackers wrote."""
    folder = tmp_path_factory.mktemp("untracked") / "run"
    launch.start(read_recipe(overrides=[*small, f"out={folder}"]), Console(file=io.StringIO()))
    assert not list(folder.rglob("tracking.json"))
    return outcome(folder)


def test_every_training_of_a_job_is_logged_under_its_name(distill, tmp_path, server, records):
    distill("kd", "track=remembered", taught=True)
    folders = {"student": tmp_path / "kd", "alone": tmp_path / "kd" / "alone", "teacher": tmp_path / "kd" / "teacher"}
    for name, folder in folders.items():
        kept = server[name]
        assert passed_on(kept) == records(folder)
        assert all(epoch.values["images_per_second"] > 0 for epoch in kept["epochs"])
        assert kept["subject"].job == "kd"
        scores = json.loads((folder / "scores.json").read_text())["results"][0]
        (results,) = kept["ends"]
        assert results["student/top1"] == scores["scores"]["top1"]
        assert results["student/parameters"] == scores["cost"]["parameters"]
    assert "terms/teacher.logits->student.logits" in server["student"]["epochs"][0].values
    assert server["student"]["subject"].recipe["method"]["name"] == "kd"
    assert server["alone"]["subject"].recipe["method"]["name"] == "supervised"
    assert len(server) == 3


def test_a_stopped_run_goes_on_with_the_same_ids_and_no_point_twice(
    distill, resume, tmp_path, server, records, stopping
):
    with stopping():
        distill("stopped", "track=remembered")
    assert [e.number for e in server["student"]["epochs"]] == [1]
    assert server["student"]["ends"] == [None]
    resume("stopped")
    assert passed_on(server["student"]) == records(tmp_path / "stopped")
    assert len(server["student"]["ends"]) == 2
    assert len(server) == 1
    resume("stopped")
    assert len(server["student"]["ends"]) == 2


class DiedError(BaseException):
    """The end of a process, which nobody catches."""


# The notes are kept at the start and twice an epoch: the third and fifth time is after an epoch was logged.
@pytest.mark.parametrize(
    ("place", "call"),
    first_of([("_keep", 3), ("epoch", 1), ("_pass_on", 2), ("_keep", 5), ("finish", 1)]),
)
def test_a_process_that_dies_between_metrics_and_tracker(
    distill, resume, tmp_path, server, records, monkeypatch, place, call
):
    original, calls = getattr(following.Following, place), []

    def deadly(self, *arguments):
        calls.append(place)
        if len(calls) == call:
            raise DiedError
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(following.Following, place, deadly)
        patch.setattr(following.Following, "__exit__", lambda *_: None)
        with pytest.raises(DiedError):
            distill("died", "track=remembered")
    resume("died")
    assert passed_on(server["student"]) == records(tmp_path / "died")
    assert len(server["student"]["ends"]) == 1


@pytest.mark.parametrize("where", first_of(["start", "epoch", "finish"]))
def test_a_tracker_that_raises_is_left_out_and_catches_up_when_resumed(
    distill, resume, tmp_path, server, records, untracked, where
):
    server.trouble(where)
    printed = distill("trouble", "track=[remembered]")
    assert outcome(tmp_path / "trouble") == untracked
    assert printed.count("warning: remembered is left out until this run is resumed") == 1
    assert f"(ConnectionError: no answer to {where})" in printed
    server.trouble("")
    assert "warning" not in resume("trouble")
    assert passed_on(server["student"]) == records(tmp_path / "trouble")
    assert server["student"]["ends"][-1]["student/top1"] >= 0


@register_tracker("meddling", title="Does what a tracker must not do")
class Meddling:
    place = "nowhere"

    def start(self, subject, logged):
        self.meddle()
        return logged

    def epoch(self, epoch):
        epoch.values.clear()
        self.meddle()

    def finish(self, results):
        results.clear()
        self.meddle()

    def meddle(self):
        torch.manual_seed(random.randrange(100))
        torch.rand(3)


def test_trackers_change_neither_weights_nor_records_nor_each_other(distill, tmp_path, server, records, untracked):
    printed = distill("meddled", "track=meddling,remembered")
    assert "supervised: tracked by Does what a tracker must not do (nowhere)" in printed
    assert outcome(tmp_path / "meddled") == untracked
    assert passed_on(server["student"]) == records(tmp_path / "meddled")
    assert server["student"]["ends"][0]


def test_a_full_disk_under_the_notes_leaves_the_training_alone(distill, tmp_path, server, untracked, monkeypatch):
    def full(path, tree):
        if tree["epochs"]:
            raise AttarError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(following, "write_json", full)
    printed = distill("full", "track=remembered")
    assert printed.count("warning: remembered is left out") == 1
    assert outcome(tmp_path / "full") == untracked
    assert server["student"]["epochs"] == []


@pytest.mark.parametrize("damage", ["{", "[1, 2]", '{"id": 3, "logged": {}, "done": [], "epochs": {}}', "{}"])
def test_notes_that_somebody_damaged(tmp_path, damage):
    (tmp_path / "tracking.json").write_text(damage)
    with pytest.raises(AttarError, match=r"tracking\.json.*delete it to be tracked"):
        Tracking(["remembered"], tmp_path).follow(tmp_path, {}, [], print)


MISTAKES = {
    "tensorbord": "unknown tracker 'tensorbord'; did you mean 'tensorboard'?",
    "absent": r"track=absent needs no_such_package, which is not installed; pip install 'attar\[absent\]'",
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_before_anything_is_written(distill, tmp_path, name):
    if name == "absent":
        register_tracker(name, title="", package="no_such_package", extra="absent")(Meddling)
    with pytest.raises(AttarError, match=MISTAKES[name]):
        distill("mistake", f"track=[{name}]")
    assert not (tmp_path / "mistake").exists()


def test_a_finished_run_names_the_file_of_its_tracker(attar, forget, small, tmp_path):
    """Of a run that goes on, the message is the same: either one asks for its trackers here."""
    page = (Path(__file__).parents[2] / "docs/tracking.md").read_text()
    (tmp_path / "lines.py").write_text(page.partition("```python\n")[2].partition("```")[0])
    status, _, err = attar("distill", *small, "epochs=1", "out=run", "track=lines", "--import", "lines.py")
    assert (status, (tmp_path / "lines.txt").read_text().count("\n")) == (0, 1), err
    forget()
    status, _, err = attar("resume", "run")
    assert status == 2
    assert err.startswith("attar: unknown tracker 'lines'; ")
    assert err.endswith("; this run imported lines.py; give --import lines.py\n")
    forget()
    status, out, err = attar("resume", "run", "--import", "lines.py")
    assert (status, "Student: run/student.safetensors" in out) == (0, True), err


def test_a_folder_of_wandb_files_is_not_the_package(tmp_path, monkeypatch):
    (tmp_path / "no_files_package").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    register_tracker("folder", title="", package="no_files_package", extra="x")(Meddling)
    with pytest.raises(AttarError, match="not installed"):
        Tracking(["folder"], tmp_path)


@pytest.mark.parametrize(("rank", "count"), [(0, 1), (1, 0)])
def test_only_the_leader_tracks(tmp_path, server, monkeypatch, rank, count):
    monkeypatch.setattr(run, "team", lambda: Team(rank, 2))
    monkeypatch.setattr(run.Training, "__post_init__", lambda self: None)
    recipe = run.Recipe()
    training = run.Training(None, None, recipe, tmp_path, "kd", tracking=Tracking(["remembered"], tmp_path))
    with training._followed(Console(file=io.StringIO())) as found:
        assert len(found.trackers) == count
    assert len(server) == count


@pytest.mark.parametrize(("begun", "accumulate", "steps"), [(0, 1, 8), (5, 1, 3), (1, 2, 8), (5, 2, 4)])
def test_the_speed_of_an_epoch_that_another_process_began(begun, accumulate, steps):
    logged = []
    progress = Progress(
        Console(file=io.StringIO()), "kd", 1, 8, 10, accumulate, on_epoch=lambda record, speed: logged.append(speed)
    )
    for step in range(begun, 8, accumulate):
        progress.step(0, step, RunningMeans(Classification()))
    progress.epoch({"epoch": 1, "loss": 1.0}, seconds=2.0)
    assert logged == [steps * 10 / 2.0]


def test_a_signal_within_a_tracker_stops_the_run_as_always(distill, resume, tmp_path, server, untracked, monkeypatch):
    pass_on = following.Following._pass_on

    def alarming(self, *arguments):
        pass_on(self, *arguments)
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(following.Following, "_pass_on", alarming)
        with pytest.raises(Stopped):
            distill("alarmed", "track=remembered")
    resume("alarmed")
    assert outcome(tmp_path / "alarmed") == untracked
    assert [e.number for e in server["student"]["epochs"]] == [1, 2]


def test_an_epoch_that_is_done_again_from_an_older_checkpoint_is_not_logged_again(tmp_path, server):
    records = [{"epoch": number, "loss": 1.0 / number} for number in (1, 2)]
    with Tracking(["remembered"], tmp_path).follow(tmp_path, {}, records, print) as found:
        for record in [*records[1:], {"epoch": 3, "loss": 0.1}]:
            found.epoch(record, 100.0)
    assert [(e.number, e.values.get("images_per_second")) for e in server["student"]["epochs"]] == [
        (1, None),
        (2, None),
        (3, 100.0),
    ]
