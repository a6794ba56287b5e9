"""Two processes never work in one run's folder."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from attar.errors import AttarError
from attar.experiments import launch
from attar.safety import locks as lock
from attar.safety.locks import locked

HOLD = "import sys, pathlib; from attar.safety.locks import locked\nwith locked(pathlib.Path(sys.argv[1])): {}"


def other(folder, then):
    code = HOLD.format(then)
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder."""
    process = other(tmp_path, "print('held', flush=True); sys.stdin.read()")
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_process_is_refused_and_reports_who_works_there(tmp_path):
    with locked(tmp_path):
        _, printed = other(tmp_path, "print('held')").communicate()
        assert f"{tmp_path} is in use by process {os.getpid()} on {socket.gethostname()}, started 20" in printed
    after = other(tmp_path, "print('held')")
    assert after.communicate() == ("held\n", "")


def test_another_process_is_named(tmp_path, holder):
    with pytest.raises(AttarError, match=f"is in use by process {holder.pid} on .*; wait for it, or stop it first"):
        locked(tmp_path).__enter__()


def test_the_lock_of_a_killed_process_is_free(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    (tmp_path / ".checkpoint.pt.7.tmp").write_text("half")
    with locked(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
        assert not (tmp_path / ".checkpoint.pt.7.tmp").exists()
    assert (tmp_path / ".lock").read_text() == ""


def test_a_job_takes_the_lock_before_it_writes(tmp_path, holder):
    values = {"student": "resnet8", "method": "supervised", "alone": "skip", "epochs": 1, "precision": "float32"}
    with pytest.raises(AttarError, match=f"in use by process {holder.pid}"):
        launch.start(launch.read_recipe(**values, out=str(tmp_path)))
    assert [file.name for file in tmp_path.iterdir()] == [".lock"]


@pytest.fixture
def no_locks(monkeypatch):
    """A file system without locks."""
    monkeypatch.setattr(lock, "fcntl", None)


def entry(pid, host=None):
    return json.dumps({"pid": pid, "host": host or socket.gethostname(), "started": "2026-01-01"})


def dead():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_without_locks_the_process_in_the_file_counts(tmp_path, no_locks):
    (tmp_path / ".lock").write_text(entry(os.getppid()))
    with pytest.raises(AttarError, match=f"process {os.getppid()} on"):
        locked(tmp_path).__enter__()


def test_without_locks_another_machine_is_believed(tmp_path, no_locks):
    (tmp_path / ".lock").write_text(entry(1, "elsewhere"))
    with pytest.raises(AttarError, match="process 1 on elsewhere"):
        locked(tmp_path).__enter__()


@pytest.mark.parametrize("known", [True, False])
def test_a_holder_on_another_machine_that_stopped_touching_its_file_is_gone(tmp_path, monkeypatch, known):
    """Also where this machine's lock is granted, because a file system may keep locks from other machines."""
    if not known:
        monkeypatch.setattr(lock, "fcntl", None)
    file = tmp_path / ".lock"
    file.write_text(entry(1, "elsewhere"))
    for age, free in ((lock.LEASE_SECONDS - 20, False), (lock.LEASE_SECONDS + 5, True)):
        os.utime(file, (time.time() - age,) * 2)
        if not free:
            with pytest.raises(lock.InUseError, match="process 1 on elsewhere"):
                locked(tmp_path).__enter__()
        else:
            with locked(tmp_path):
                assert json.loads(file.read_text())["pid"] == os.getpid()
    assert [one.name for one in tmp_path.iterdir()] == [".lock"]


def test_a_holder_touches_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    file = tmp_path / ".lock"
    with locked(tmp_path):
        os.utime(file, (0, 0))
        for _ in range(500):
            if file.stat().st_mtime > 0:
                break
            time.sleep(0.01)
        assert file.stat().st_mtime > 0


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", None])
def test_without_locks_a_dead_or_half_written_entry_is_stale(tmp_path, no_locks, text):
    (tmp_path / ".lock").write_text(entry(dead()) if text is None else text)
    with locked(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
