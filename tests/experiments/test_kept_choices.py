"""What is chosen by timing is chosen once: per job, per suite, on resume and when a run's recipe is repeated."""

import io
import json
import shutil
import signal

import pytest
import torch
from rich.console import Console

import attar
from attar.accel import runtime as timing
from attar.errors import AttarError, Stopped
from attar.experiments import launch
from attar.experiments import training as trainings
from attar.experiments.kept_choices import Choices
from attar.experiments.runtime_record import read_runtime
from attar.methods import create_method
from attar.profiling import threads
from attar.recipe import read_recipe
from attar.teachers import selection
from attar.train import loop

VALUES = {
    "teacher": {"name": "resnet14", "epochs": 1},
    "student": "resnet8",
    "data": {"name": "digits", "train_size": 40},
    "epochs": 2,
    "batch_size": 20,
    "alone": "skip",
}


def distil(folder, file=None, **values):
    console = Console(file=io.StringIO(), width=200)
    recipe = read_recipe(file, **({} if file else VALUES) | values, out=str(folder))
    launch.start(recipe, console, file=file)
    return console.file.getvalue()


def resume(folder):
    console = Console(file=io.StringIO(), width=200)
    launch.resume(folder, console)
    return console.file.getvalue()


def weights(folder):
    return [(folder / part).read_bytes() for part in ("teacher/student.safetensors", "student.safetensors")]


@pytest.fixture
def stop_after(monkeypatch):
    """Asks a run to stop at the end of the epoch that this call names, counted over its trainings; None: no more."""
    end_epoch, left = loop.Fit.end_epoch, []

    def ending(self, epoch, stop):
        if left and left.pop() == 0:
            signal.raise_signal(signal.SIGTERM)
        end_epoch(self, epoch, stop)

    monkeypatch.setattr(loop.Fit, "end_epoch", ending)
    return lambda epochs: left.extend(range(epochs))


FLOAT = {"precision": "float32", "teacher": {"name": "resnet14", "epochs": 1, "precision": "float32"}}


@pytest.fixture
def threads_of_steps(monkeypatch):
    """Which numbers of threads training steps had; no threads are started."""
    now, seen, step = [2], [], loop.Fit.step
    monkeypatch.setattr(torch, "get_num_threads", lambda: now[0])
    monkeypatch.setattr(torch, "set_num_threads", lambda count: now.__setitem__(0, count))
    monkeypatch.setattr(loop.Fit, "step", lambda self, batch: seen.append(now[0]) or step(self, batch))
    return seen


@pytest.mark.parametrize(
    "epochs",
    [pytest.param(1, marks=pytest.mark.slow), 2],
    ids=["the teacher's first epoch", "the student's first epoch"],
)
def test_a_resumed_run_computes_with_the_threads_it_began_with(tmp_path, stop_after, threads_of_steps, epochs):
    stop_after(epochs)
    with pytest.raises(Stopped):
        distil(tmp_path / "run", **FLOAT)
    torch.set_num_threads(1)
    threads_of_steps.clear()
    printed = resume(tmp_path / "run")
    assert set(threads_of_steps) == {2}
    assert torch.get_num_threads() == 1
    assert "computes on 2 threads, as the run began; this process has 1\n" in printed


def test_where_the_threads_cannot_be_had_a_line_says_so(tmp_path, monkeypatch, stop_after, threads_of_steps):
    stop_after(1)
    with pytest.raises(Stopped):
        distil(tmp_path / "run", **FLOAT)
    torch.set_num_threads(1)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    printed = resume(tmp_path / "run")
    assert "the run began with 2 threads, torch gives 1 here: the last bits of its weights may differ" in printed


@pytest.mark.slow
def test_a_run_on_two_threads_resumed_on_one_ends_as_undisturbed(tmp_path, stop_after):
    with threads(2):
        distil(tmp_path / "whole", **FLOAT)
        stop_after(2)
        with pytest.raises(Stopped):
            distil(tmp_path / "broken", **FLOAT)
    with threads(1):
        resume(tmp_path / "broken")
    assert weights(tmp_path / "broken") == weights(tmp_path / "whole")


def test_the_threads_of_an_earlier_versions_record_are_used(tmp_path):
    runtime = {"precision": "float32", "reason": "", "teachers": [], "threads": None}
    (tmp_path / "environment.json").write_text(json.dumps({"runtime": runtime, "threads": 3}))
    found, _ = read_runtime(tmp_path, torch.device("cpu"))
    assert (found.threads, found.teacher_threads) == (3, 3)


@pytest.fixture
def clock(monkeypatch):
    """Seconds of a step by precision, and whether folded engines are fast; the list of what was timed."""
    took, timed = {"float32": 2.0, "bfloat16": 1.0, "folded": 0.5}, []
    monkeypatch.setattr(timing, "bfloat16_slowness", lambda: 1.0)
    monkeypatch.setattr(
        timing, "step_seconds", lambda method, losses, batch, found: timed.append("step") or took[found.precision]
    )
    monkeypatch.setattr(
        selection, "seconds", lambda one, *_: timed.append("engine") or took.get(one.name.split()[0], 1.0)
    )
    monkeypatch.setattr(trainings, "choose_compiled", lambda *_: (timed.append("compiled") or False, ""))
    return took, timed


def test_bfloat16_must_be_clearly_faster(clock):
    took, _ = clock
    for seconds, expected in ((1.0, "bfloat16"), (1.9, "float32"), (2.1, "float32")):
        took["bfloat16"] = seconds
        assert (
            timing.choose(
                create_method("supervised", student=torch.nn.Linear(1, 2)), None, torch.device("cpu"), "auto"
            ).precision
            == expected
        )


def test_a_runs_recipe_repeats_its_choices_whatever_the_clock_says(tmp_path, clock):
    took, timed = clock
    distil(tmp_path / "run")
    took.update(float32=1.0, bfloat16=2.0, folded=3.0)
    timed.clear()
    file = tmp_path / "run" / "recipe.yaml"
    printed = distil(tmp_path / "again", file=file)
    assert timed == []
    assert f"precision, engines and threads as in {tmp_path / 'run'}\n" in printed
    assert "teacher 1 computes folded bfloat16, chosen before: same class for" in printed
    assert weights(tmp_path / "again") == weights(tmp_path / "run")
    found, _ = read_runtime(tmp_path / "again", torch.device("cpu"))
    before, _ = read_runtime(tmp_path / "run", torch.device("cpu"))
    keys = ("precision", "teachers", "compiled", "threads", "teacher_threads")
    assert [getattr(found, key) for key in keys] == [getattr(before, key) for key in keys]
    summary = attar.distill(file, out=str(tmp_path / "api"), console=Console(file=io.StringIO()))
    assert timed == []
    assert summary.student.read_bytes() == weights(tmp_path / "run")[1]


@pytest.mark.slow
def test_a_repeated_run_that_stops_early_goes_on_with_the_same_choices(tmp_path, clock, stop_after):
    took, timed = clock
    distil(tmp_path / "run")
    took.update(float32=1.0, bfloat16=2.0, folded=3.0)
    stop_after(1)
    with pytest.raises(Stopped):
        distil(tmp_path / "again", file=tmp_path / "run" / "recipe.yaml")
    shutil.rmtree(tmp_path / "again" / "student", ignore_errors=True)
    timed.clear()
    resume(tmp_path / "again")
    assert timed == []
    assert weights(tmp_path / "again") == weights(tmp_path / "run")


@pytest.mark.slow
def test_another_step_is_chosen_anew_and_said(tmp_path, clock):
    took, _ = clock
    distil(tmp_path / "run")
    took.update(float32=1.0, bfloat16=2.0)
    printed = distil(tmp_path / "again", file=tmp_path / "run" / "recipe.yaml", batch_size=30)
    line = f"precision and engines are chosen anew: other batch_size than the run in {tmp_path / 'run'}\n"
    assert line in printed
    assert read_runtime(tmp_path / "again", torch.device("cpu"))[0].precision == "float32"


def test_a_choice_is_made_once(tmp_path):
    file = tmp_path / "choices.json"
    assert Choices(file).once("number", "a", lambda: 1) == 1
    assert Choices(file).once("number", "a", lambda: 2) == 1
    assert Choices(file).once("number", "b", lambda: 2) == 2
    assert Choices().once("number", "a", lambda: 3) == 3


def test_of_two_that_choose_at_the_same_time_the_first_decides(tmp_path):
    file = tmp_path / "choices.json"

    def slow():
        Choices(file).once("word", "", lambda: "first")
        return "second"

    assert Choices(file).once("word", "", slow) == "first"


def test_a_damaged_file_is_one_line_also_while_it_is_written(tmp_path):
    file = tmp_path / "choices.json"

    def damaging():
        file.write_text('{"precision": 3}')
        return "float32"

    with pytest.raises(AttarError, match=r"cannot read .*choices\.json \(precision is 3\)"):
        Choices(file).once("precision", "", damaging)


def test_the_optimisers_defaults_are_printed(tmp_path):
    printed = distil(tmp_path / "run", teacher="", method="supervised", epochs=1, optim={"name": "adamw"})
    assert "adamw: lr 0.001, weight decay 0.01, schedule onecycle\n" in printed
