"""Event files, read back with TensorBoard's own reader."""

import io
import json

import pytest
import torch
from rich.console import Console

from attar.experiments import launch
from attar.recipe import read_recipe
from attar.track import Epoch, tracker_info

reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="needs attar[track]")


def curves(folder):
    """(step, value) of every curve, and the accumulator."""
    events = reader.EventAccumulator(str(folder), purge_orphaned_data=False)
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}, events


def test_curves_of_a_stopped_and_resumed_run(distill, resume, tmp_path, records, stopping):
    with stopping():
        distill("stopped", "track=tensorboard")
    folder = tmp_path / "stopped" / "tensorboard" / "student"
    (first,) = folder.iterdir()
    assert [step for step, _ in curves(folder)[0]["loss"]] == [1]
    resume("stopped")
    assert not first.exists()
    found, events = curves(folder)
    expected = records(tmp_path / "stopped")
    for name in expected[0][1]:
        # Event files hold float32.
        assert found[name] == [(n, torch.tensor(values[name]).item()) for n, values in expected]
    assert [step for step, _ in found["images_per_second"]] == [1, 2]
    times = json.loads((tmp_path / "stopped" / "tracking.json").read_text())["epochs"]
    assert [e.wall_time for e in events.Scalars("loss")] == [times[n]["time"] for n in ("1", "2")]
    scores = json.loads((tmp_path / "stopped" / "scores.json").read_text())["results"][0]["scores"]
    assert found["results/student/top1"] == [(2, pytest.approx(scores["top1"]))]
    assert b"name: resnet8" in events.Tensors("recipe/text_summary")[0].tensor_proto.string_val[0]


def test_each_training_has_a_folder_and_the_place_is_reported_once(distill, tmp_path):
    printed = distill("kd", "track=tensorboard", "epochs=1", taught=True)
    assert {file.parent.name for file in (tmp_path / "kd").rglob("events*")} == {"teacher", "alone", "student"}
    assert printed.count(f"tracked by TensorBoard (tensorboard --logdir {tmp_path / 'kd' / 'tensorboard'})") == 1


def test_a_place_that_cannot_be_written_is_a_warning(small, tmp_path):
    folder, printed = tmp_path / "run", Console(file=io.StringIO(), width=300)
    folder.mkdir()
    (folder / "tensorboard").write_text("a file where the folder should be")
    launch.start(read_recipe(overrides=[*small, "epochs=1", "track=tensorboard", f"out={folder}"]), printed)
    assert "warning: tensorboard is left out until this run is resumed" in printed.file.getvalue()
    assert (folder / "student.safetensors").exists()


def test_a_second_writer_leaves_no_point_of_the_first(subject):
    for values in ([1.0, 2.0], [3.0]):
        tracker = tracker_info("tensorboard").make()
        assert tracker.start(subject, logged=5) == 0
        for number, loss in enumerate(values, 1):
            tracker.epoch(Epoch(number, {"loss": loss}, 0.0))
        tracker.finish(None)
    assert curves(subject.folder / "tensorboard" / "student")[0] == {"loss": [(1, 3.0)]}
