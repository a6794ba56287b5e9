"""Processes beside this one: killed at any moment, the command goes on without them or ends."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from attar.errors import AttarError, Stopped
from attar.experiments.workers import WorkerPool


def process_once(file):
    """Its process's number, when the file is there."""
    while not Path(file).exists():
        time.sleep(0.01)
    return os.getpid()


def failing():
    raise ValueError(lambda: None)


@pytest.fixture
def deadline():
    """The test ends after two minutes, whatever hangs."""

    def interrupt(number, frame):
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def begun(tmp_path):
    """Two processes, the first with a task that waits for `go`, the second with nothing in hand."""
    (tmp_path / "now").touch()
    tasks = [(process_once, (str(tmp_path / name),)) for name in ("go", "now")]
    results = WorkerPool(2, 1).results(tasks)
    number, idle = next(results)
    assert number == 1
    return results, idle


@pytest.mark.slow
def test_an_idle_process_that_is_killed_is_not_missed(tmp_path, deadline):
    results, idle = begun(tmp_path)
    os.kill(idle, signal.SIGKILL)
    time.sleep(0.1)
    (tmp_path / "go").touch()
    assert [number for number, _ in results] == [0]


@pytest.mark.slow
def test_a_request_to_stop_ends_all_although_an_idle_process_was_killed(tmp_path, deadline):
    results, idle = begun(tmp_path)
    os.kill(idle, signal.SIGKILL)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(Stopped):
        next(results)


def ask_to_stop():
    """A request that arrives before the process has a task."""
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_task_that_is_on_its_way_when_its_process_is_asked_to_stop_does_not_begin(tmp_path, deadline):
    (tmp_path / "go").touch()
    with pytest.raises(Stopped):
        list(WorkerPool(1, 1, prepare=ask_to_stop).results([(process_once, (str(tmp_path / "go"),))]))


def test_a_process_that_is_killed_at_work_is_an_error_and_the_others_end(tmp_path, deadline):
    (tmp_path / "now").touch()
    tasks = [(process_once, (str(tmp_path / name),)) for name in ("go", "now", "never")]
    results = WorkerPool(2, 1).results(tasks)
    _, busy = next(results)
    threading.Timer(0.5, os.kill, (busy, signal.SIGKILL)).start()  # it works on "never" then
    with pytest.raises(AttarError, match="a process beside this one died"):
        next(results)


@pytest.mark.slow
def test_an_error_that_cannot_be_sent_is_sent_as_text(deadline):
    with pytest.raises(RuntimeError, match="ValueError: <function"):
        list(WorkerPool(1, 1).results([(failing, ())]))
