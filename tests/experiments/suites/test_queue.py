"""The order in which runs begin: teachers first, what another process holds later."""

import os
from pathlib import Path

import pytest

from attar.errors import AttarError
from attar.experiments import launch
from attar.experiments.shared_resources import SharedResources
from attar.experiments.suites import attempts
from attar.experiments.suites import queue as room
from attar.experiments.suites.attempts import LEASE, Outcome, attempt, attempt_logged
from attar.experiments.suites.cells import cells_of
from attar.experiments.suites.queue import Queue
from attar.report.bench_files import Note, read_note
from attar.safety.locks import held


@pytest.fixture
def cells(tmp_path):
    suite = {"methods": ["supervised", "kd"], "pairs": [{"teacher": "resnet14", "student": "resnet8"}], "seeds": [0, 1]}
    return cells_of(suite, {"data": {"name": "digits"}}, tmp_path)


def finish(folder: Path):
    folder.mkdir(parents=True)
    (folder / "results.json").write_text("{}")


def test_a_run_waits_for_its_teacher_and_others_go_on(cells, tmp_path):
    queue = Queue(cells, tmp_path, tmp_path / "choices.json")
    assert queue.count == 6
    first, second = queue.next(), queue.next()
    assert [first.title, second.title] == ["teacher resnet14, seed 0", "teacher resnet14, seed 1"]
    assert queue.next() is None  # both teachers are being trained
    finish(tmp_path / second.folder)
    queue.note(second, Outcome("done"))
    assert queue.next().title == "supervised, resnet14 -> resnet8, seed 1"
    queue.note(first, Outcome("failed", "no"))
    assert queue.next().title == "supervised, resnet14 -> resnet8, seed 0"  # it fails, too


def test_a_run_that_another_process_holds_is_later(cells, tmp_path, monkeypatch):
    queue = Queue(cells, tmp_path, tmp_path / "choices.json")
    teacher = queue.next()
    with held(tmp_path / teacher.folder / LEASE):
        outcome = attempt(teacher, tmp_path, None, SharedResources())
    assert outcome.state == "later"
    assert "in use by process" in outcome.reason
    queue.note(teacher, outcome)
    assert list(queue.elsewhere) == [teacher.title]
    assert queue.next().seed == 1  # meanwhile the other seed's
    assert queue.next() is None
    monkeypatch.setattr(room.time, "monotonic", lambda: 1e12)
    assert queue.next() is teacher
    assert not queue.failed


def test_a_run_without_its_teacher_fails_with_the_teachers_reason(cells, tmp_path):
    cell = cells[0]
    folder = tmp_path / cell.teachers[0].folder
    folder.mkdir(parents=True)
    (folder / "cell.json").write_text('{"seconds": 1.0, "failed": "the loss is nan", "begun": null}')
    outcome = attempt(cell, tmp_path, None, SharedResources())
    assert outcome == Outcome("failed", "its teacher resnet14 failed: the loss is nan")
    assert "its teacher" in (tmp_path / cell.folder / "cell.json").read_text()


def test_a_run_that_another_process_finished_meanwhile_is_done(cells, tmp_path):
    finish(tmp_path / cells[0].folder)
    assert attempt(cells[0], tmp_path, None, SharedResources()) == Outcome("done")


def test_any_error_of_a_run_is_its_own_failure_with_the_traceback_in_its_log(cells, tmp_path, monkeypatch):
    cell = cells[0]
    finish(tmp_path / cell.teachers[0].folder)
    monkeypatch.setattr(launch, "prepare", lambda *_: 1 / 0)
    outcome = attempt_logged(cell, tmp_path, SharedResources())
    log = tmp_path / cell.folder / "log.txt"
    assert outcome == Outcome("failed", f"ZeroDivisionError: division by zero ({log})")
    assert "Traceback" in log.read_text()
    assert read_note(tmp_path / cell.folder).failed == outcome.reason


def test_the_time_of_a_run_adds_up_over_its_processes(tmp_path, monkeypatch):
    """Of one that was killed, until its last checkpoint."""
    clock = [1000.0]
    monkeypatch.setattr(attempts.time, "monotonic", lambda: clock[0])
    with attempts.noted(tmp_path):
        clock[0] += 30
    assert read_note(tmp_path) == Note(30.0)
    (tmp_path / "cell.json").write_text('{"seconds": 30.0, "failed": "", "begun": 5000.0}')
    (tmp_path / "checkpoint.pt").touch()
    os.utime(tmp_path / "checkpoint.pt", (5012, 5012))

    def fail():
        with attempts.noted(tmp_path):
            clock[0] += 5
            raise AttarError("no")

    with pytest.raises(AttarError, match="no"):
        fail()
    assert read_note(tmp_path) == Note(47.0, "no")
