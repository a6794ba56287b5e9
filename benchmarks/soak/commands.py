"""Commands of attar in processes of their own, forked so that torch is imported once, and killed at random moments."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from attar import cli
from attar.experiments import job  # noqa: F401 - imported before the processes fork

# What a run must end with, bit for bit, whatever happened to it.
COMPARED = ("student.safetensors", "metrics.jsonl")
TEACHER = ["student=resnet14", "epochs=2", "precision=float32"]
STUDENT = ["student=resnet8", "alone=skip", "batch_size=16", "optim.lr=0.05", "precision=float32"]


def start(arguments: list[str], prepare: Callable[[], object] | None = None) -> int:
    """The process of a command; `prepare` is called in it first."""
    if process := os.fork():
        return process
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
    sys.argv = ["attar", *arguments]
    status = 1
    try:
        if prepare:
            prepare()
        cli.main()
    except SystemExit as ended:
        status = int(ended.code or 0)
    finally:
        os._exit(status)


def finish(process: int) -> None:
    """Wait for a process that must succeed."""
    if status := os.waitpid(process, 0)[1]:
        sys.exit(f"a run failed (status {status}); its last words are above")


def run(arguments: list[str]) -> None:
    """A command that must succeed, waited for."""
    finish(start(arguments))


def trained_teacher(scratch: Path) -> list[str]:
    """A teacher, as a recipe names it."""
    run(["train", *TEACHER, f"out={scratch / 'teacher'}"])
    weights = scratch / "teacher" / "student.safetensors"
    # Separate runs are compared, and which engine is faster hangs on the moment.
    return ["teacher=resnet14", f"teacher.weights={weights}", "teacher.precision=float32"]


def timed(process: int, first: Path, last: Path) -> float:
    """Wait for a run to end well; the seconds from its first file to its last."""
    await_file(process, first)
    begun = time.time()
    finish(process)
    return max(0.0, last.stat().st_mtime - begun)


def kill(process: int, first: Path, seconds: float) -> bool:
    """Kill a process so long after its first file; whether that was before the run's end."""
    await_file(process, first)
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(process, 0)[1]) and not (first.parent / "scores.json").exists()


def await_file(process: int, file: Path) -> None:
    """Return when a run has written a file, or ended."""
    while not file.exists():
        time.sleep(0.001)
        if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return


def same(run: Path, other: Path) -> bool:
    """Whether two runs ended with the same bits."""
    return all(digest(run / name) == digest(other / name) for name in COMPARED)


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def leftovers(folder: Path) -> int:
    """How many unfinished files lie in a folder."""
    return len(list(folder.rglob("*.tmp")))
