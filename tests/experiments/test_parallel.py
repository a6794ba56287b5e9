"""Trainings of one job in processes of their own: the same results, seen from here, stopped and resumed together."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

import attar
from attar.accel import threads as sharing
from attar.accel.runtime import Runtime
from attar.distributed.team import Team
from attar.errors import AttarError
from attar.experiments import job as room
from attar.experiments import launch, runtime_choice
from attar.experiments.job import train_beside
from attar.experiments.parallel import LOCK, LOG, TrainingSpec, Watch, side_by_side
from attar.experiments.teacher_predictions import TeacherPredictions
from attar.experiments.training import Training
from attar.experiments.workers import WorkerPool
from attar.profiling import threads
from attar.recipe import read_recipe, to_yaml
from attar.safety.locks import held
from attar.train.logging import read
from attar.train.loop import Places

JOB = {
    "teacher": {"name": "resnet14", "epochs": 1, "precision": "float32"},
    "student": "resnet8",
    "data": {"name": "digits", "train_size": 60},
    "epochs": 3,
    "batch_size": 20,
    "seeds": 2,
    "precision": "float32",
}
TRAININGS = ("seed0", "seed0/alone", "seed1", "seed1/alone")
FILES = [f"{training}/{name}" for training in TRAININGS for name in ("student.safetensors", "metrics.jsonl")]


def distil(folder: Path, **values) -> str:
    printed = io.StringIO()
    launch.start(read_recipe(**{**JOB, **values}, out=str(folder)), Console(file=printed, width=200))
    return printed.getvalue()


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("jobs") / "one"
    distil(folder)
    return folder


def test_two_at_a_time_end_as_one_after_another(one_by_one: Path, tmp_path: Path) -> None:
    printed = distil(tmp_path / "two", jobs=2)
    assert contents(tmp_path / "two") == contents(one_by_one)
    assert "2 trainings at a time, 1 thread each" in printed
    for title in ("kd seed 0", "kd seed 1", "alone seed 0", "alone seed 1"):
        assert printed.count(f"{title}: epoch 3/3") == 1
    runtime = json.loads((tmp_path / "two" / "environment.json").read_text())["runtime"]
    assert (runtime["jobs"], runtime["threads"]) == (2, 1)


@pytest.mark.slow
def test_what_is_finished_is_not_done_again(one_by_one: Path, tmp_path: Path, monkeypatch) -> None:
    shutil.copytree(one_by_one, tmp_path / "job")
    before = {name: (tmp_path / "job" / name).stat().st_mtime_ns for name in FILES}
    (tmp_path / "job" / "results.json").unlink()
    (tmp_path / "job" / "seed1" / "scores.json").unlink()
    (tmp_path / "job" / "seed1" / LOG).write_text("kd seed 1: epoch 1/3\n")
    recipe = read_recipe(tmp_path / "job" / "recipe.yaml", jobs=3)
    (tmp_path / "job" / "recipe.yaml").write_text(to_yaml(recipe))
    specs, printed = [], io.StringIO()
    monkeypatch.setattr(
        room, "side_by_side", lambda waiting, *more: specs.extend(waiting) or side_by_side(waiting, *more)
    )
    launch.resume(tmp_path / "job", Console(file=printed))
    assert [spec.title for spec in specs] == ["kd seed 1"]
    after = {name: (tmp_path / "job" / name).stat().st_mtime_ns for name in FILES}
    assert {name for name in FILES if before[name] != after[name]} == {"seed1/student.safetensors"}
    assert contents(tmp_path / "job") == contents(one_by_one)
    assert "epoch 1/3" not in printed.getvalue()  # the log's earlier lines


def test_the_teacher_is_examined_once(one_by_one: Path, tmp_path: Path, monkeypatch) -> None:
    known, begin = [], TeacherPredictions.begin

    def spied(self: TeacherPredictions, images) -> None:
        begin(self, images)
        known.append(bool(self._batches))

    def in_this_process(specs, work, jobs, each, prepare, console) -> list:
        prepare()
        assert not any(work(spec) for spec in specs)
        room._reopened.cache_clear()
        room._shared.teacher_logits.clear()
        return []

    monkeypatch.setattr(TeacherPredictions, "begin", spied)
    monkeypatch.setattr(room, "side_by_side", in_this_process)
    weights = one_by_one / "teacher" / "student.safetensors"
    distil(tmp_path / "job", teacher={"name": "resnet14", "weights": str(weights)}, seeds=1, jobs=2)
    assert known == [False, True, True]


def test_a_job_of_one_training_starts_no_process(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(room, "side_by_side", lambda *_: pytest.fail("a process was started"))
    assert "at a time" not in distil(tmp_path / "job", seeds=1, alone="skip", jobs=2)


@pytest.mark.slow
def test_a_failure_beside_others_names_its_reason(tmp_path: Path) -> None:
    values = {"teacher": "", "method": "supervised", "alone": "skip", "jobs": 2}
    with pytest.raises(AttarError, match="the loss is nan at epoch 1"):
        distil(tmp_path / "job", **values, optim={"lr": 1e30, "schedule": "constant"})
    assert not (tmp_path / "job" / "results.json").exists()


LONG = {"epochs": 40, "alone": "skip", "data": {"name": "digits", "train_size": 100}, "checkpoint_minutes": 60}


@pytest.mark.slow
def test_stopped_killed_and_resumed_it_ends_the_same(tmp_path: Path, wait_for, is_free) -> None:
    distil(tmp_path / "whole", **LONG)
    broken, seeds = tmp_path / "broken", [tmp_path / "broken" / f"seed{seed}" for seed in (0, 1)]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(to_yaml(read_recipe(**{**JOB, **LONG}, jobs=2)))
    command = [sys.executable, "-c", "from attar.cli import main; main()"]
    for words, how in (
        (["distill", str(recipe), f"out={broken}"], signal.SIGTERM),
        (["resume", broken], signal.SIGKILL),
    ):
        before = [epochs(folder) for folder in seeds]
        with subprocess.Popen([*command, *words], stdout=subprocess.PIPE) as process:
            try:
                wait_for(lambda before=before: all(epochs(one) > old for one, old in zip(seeds, before, strict=True)))
                process.send_signal(how)
                assert process.wait(timeout=60) != 0
            finally:
                process.kill()  # where it did not end, on a machine that was too busy
        for folder in seeds:
            wait_for(lambda folder=folder: is_free(folder / LOCK))
        assert not [folder for folder in seeds if (folder / "scores.json").exists()]
    launch.resume(broken, Console(file=io.StringIO()))
    for folder in seeds:
        for name in ("student.safetensors", "metrics.jsonl"):
            assert (folder / name).read_bytes() == (tmp_path / "whole" / folder.name / name).read_bytes()


def epochs(folder: Path) -> int:
    return len(read(Places(folder).metrics))


def test_a_training_that_another_process_works_on_is_left_to_it(tmp_path: Path) -> None:
    spec = TrainingSpec(tmp_path, 0, False, "kd", tmp_path / "seed0", 3)
    with held(tmp_path / "seed0" / LOCK), pytest.raises(AttarError, match="seed0 is in use by process"):
        train_beside(spec)


def test_what_cannot_go_side_by_side_is_refused_before_anything_is_written(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(AttarError, match="jobs=2: objects stay in this process; give names and files"):
        attar.train_model(student=nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), out=str(tmp_path / "job"), jobs=2)
    monkeypatch.setattr(runtime_choice, "team", lambda: Team(0, 2))
    with pytest.raises(AttarError, match="jobs=2: torchrun's processes train one network together"):
        distil(tmp_path / "job", jobs=2)
    with pytest.raises(AttarError, match="jobs must be above 0, got 0"):
        distil(tmp_path / "job", jobs=0)
    assert not (tmp_path / "job").exists()


@pytest.fixture
def slow_threads(monkeypatch):
    """Steps that are no faster on two threads than on one, in a job that is long enough to care."""
    monkeypatch.setattr(sharing, "WORTH_SHARING", 0)
    seen = []

    def step_seconds(self, runtime):
        seen.append((self.title, torch.get_num_threads()))
        return 0.1

    monkeypatch.setattr(Training, "step_seconds", step_seconds)
    return seen


def shared(tmp_path: Path, beside: Callable[[], object] | None, **values) -> tuple[int | None, int]:
    recipe = read_recipe(**{**JOB, **values}, out=str(tmp_path / "job"))
    with threads(2):
        runtime = launch.prepare(recipe, Console(file=io.StringIO()), beside=beside)._runtime()
    return runtime.threads, runtime.jobs


def test_unasked_it_is_tried_with_the_student_and_the_student_alone(tmp_path: Path, slow_threads) -> None:
    assert shared(tmp_path, beside=os.getpid) == (1, 2)
    assert slow_threads == [("kd seed 0", 2), ("alone seed 0", 2), ("kd seed 0", 1), ("alone seed 0", 1)]


def test_unasked_every_seed_is_a_training(tmp_path: Path, slow_threads) -> None:
    assert shared(tmp_path, beside=os.getpid, alone="skip") == (1, 2)


def test_unasked_no_process_starts_where_the_caller_did_not_say_how(tmp_path: Path, slow_threads) -> None:
    assert shared(tmp_path, beside=None) == (2, 1)


def test_unasked_no_process_starts_where_memory_is_short(tmp_path: Path, slow_threads, monkeypatch) -> None:
    monkeypatch.setattr(sharing, "free_memory", lambda: 1)
    assert shared(tmp_path, beside=os.getpid) == (2, 1)


def test_unasked_no_process_starts_beside_those_that_read_files(tmp_path: Path, slow_threads, monkeypatch) -> None:
    monkeypatch.setattr(room, "FileSet", object)
    assert shared(tmp_path, beside=os.getpid) == (2, 1)


def test_a_gpu_is_shared_only_where_the_recipe_says_so(tmp_path: Path, slow_threads) -> None:
    recipe = read_recipe(**JOB, out=str(tmp_path / "job"))
    job = launch.prepare(recipe, Console(file=io.StringIO()), beside=os.getpid)
    on_a_gpu = Runtime(torch.device("cuda"), "float32", "")
    assert job.runtime_choice.share(on_a_gpu).jobs == 1
    assert slow_threads == []
    job.recipe.jobs = 2
    assert job.runtime_choice.share(on_a_gpu).jobs == 2


def test_one_training_gets_fewer_threads_where_more_hinder(tmp_path: Path, slow_threads, monkeypatch) -> None:
    used, run = [], Training.run

    def spied(self, console, runtime):
        used.append((self.title, torch.get_num_threads()))
        return run(self, console, runtime)

    monkeypatch.setattr(Training, "step_seconds", lambda *_: 0.1 * torch.get_num_threads())
    monkeypatch.setattr(Training, "run", spied)
    recipe = read_recipe(**{**JOB, "seeds": 1, "alone": "skip"}, out=str(tmp_path / "job"))
    printed = io.StringIO()
    with threads(4):
        launch.start(recipe, Console(file=printed, width=200))
        assert torch.get_num_threads() == 4
    assert used == [("teacher resnet14", 4), ("kd", 1)]
    assert "1 thread a step: 4.0 times as fast as on 4" in printed.getvalue()


def test_one_thread_has_nothing_to_share_and_tries_nothing(tmp_path: Path, slow_threads) -> None:
    job = launch.prepare(read_recipe(**JOB, out=str(tmp_path / "job")))
    with threads(1):
        assert job.runtime_choice.share_of(4, apart=True) == sharing.Share(1)
    assert slow_threads == []


def test_one_at_a_time_is_what_one_gets(tmp_path: Path, slow_threads) -> None:
    assert shared(tmp_path, beside=os.getpid, jobs=1) == (2, 1)


def test_a_choice_is_kept(tmp_path: Path, slow_threads) -> None:
    shared(tmp_path, beside=os.getpid)
    (tmp_path / "job" / "recipe.yaml").unlink(missing_ok=True)
    slow_threads.clear()
    assert shared(tmp_path, beside=None) == (1, 2)
    assert shared(tmp_path, beside=None, jobs=1) == (1, 1)  # as somebody wrote into recipe.yaml
    assert slow_threads == []


def test_whole_lines_are_shown_once(tmp_path: Path) -> None:
    spec, printed = TrainingSpec(tmp_path, 0, False, "kd", tmp_path, 3), io.StringIO()
    log = tmp_path / LOG
    log.write_text("before\n")
    other = replace(spec, title="alone", folder=tmp_path / "alone")
    with Watch([spec, other], Console(file=printed)) as watch:
        with log.open("a") as file:
            file.write("kd: epoch 1/3 [bold]\nkd: ep")
        watch.look()
        watch.look()
        assert printed.getvalue() == "kd: epoch 1/3 [bold]\n"
        with log.open("a") as file:
            file.write("och 2/3\n")
    assert printed.getvalue() == "kd: epoch 1/3 [bold]\nkd: epoch 2/3\n"


def test_a_terminal_shows_a_bar_for_each_that_is_going_on(tmp_path: Path) -> None:
    specs = [TrainingSpec(tmp_path, seed, False, f"kd seed {seed}", tmp_path / str(seed), 8) for seed in range(3)]
    printed = io.StringIO()
    with held(specs[1].folder / LOCK), Watch(specs, Console(file=printed, force_terminal=True, width=80)) as watch:
        Places(specs[1].folder).metrics.write_text("{}\n{}\n{}\n")
        watch.look()
        watch._bars.refresh()
    assert "kd seed 1" in printed.getvalue()
    assert "3/8 epochs" in printed.getvalue()
    assert "kd seed 0" not in printed.getvalue()


def test_a_process_that_dies_is_an_error_with_advice() -> None:
    with pytest.raises(AttarError, match=r"a process beside this one died.*__main__"):
        list(WorkerPool(2, 1).results([(os._exit, (7,))]))
