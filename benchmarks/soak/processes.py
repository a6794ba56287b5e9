"""Processes beside a command, killed while they are idle or at work: the command goes on without them, or ends."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attar.errors import AttarError, Stopped
from attar.experiments.workers import WorkerPool

# More than this after a kill hangs.
MOST_SECONDS = 30.0
COLUMNS = ("killed", "as it should end", "longest trial in s")


def rows(trials: int, seed: int, scratch: Path) -> list[dict[str, Any]]:
    """A row a kind of kill."""
    draw = random.Random(seed)
    return [row(name, trial, trials, draw, scratch) for name, trial in KINDS.items()]


def row(
    name: str, trial: Callable[[Path, float], bool], trials: int, draw: random.Random, scratch: Path
) -> dict[str, Any]:
    """One kind, at random moments."""
    ended, waits = 0, []
    for number in range(trials):
        place = scratch / f"{name.replace(' ', '-')}{number}"
        place.mkdir()
        begun = time.monotonic()
        ended += guarded(trial, place, draw.uniform(0, 0.5))
        waits.append(time.monotonic() - begun)
    values = (name, f"{ended} / {trials}", f"{max(waits):.1f}")
    return {**dict(zip(COLUMNS, values, strict=True)), "passed": ended == trials}


def guarded(trial: Callable[[Path, float], bool], place: Path, seconds: float) -> bool:
    """One trial; False where it hangs."""

    def ring(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(int(MOST_SECONDS))
    try:
        return trial(place, seconds)
    except TimeoutError:
        return False
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def once(file: str) -> int:
    """The number of the process that did this task, when its file is there."""
    while not Path(file).exists():
        time.sleep(0.01)
    return os.getpid()


def begun(place: Path, *more: str) -> tuple[Any, int]:
    """Two processes: one with a task that waits for `go`, and the number of the other, which has done its task."""
    (place / "now").touch()
    tasks = [(once, (str(place / name),)) for name in ("go", "now", *more)]
    results = WorkerPool(2, 1).results(tasks)
    _, other = next(results)
    return results, other


def idle(place: Path, seconds: float) -> bool:
    """The others' results still come."""
    results, process = begun(place)
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    time.sleep(seconds)
    (place / "go").touch()
    return [number for number, _ in results] == [0]


def idle_then_asked_to_stop(place: Path, seconds: float) -> bool:
    """The command stops when it is asked to."""
    results, process = begun(place)
    os.kill(process, signal.SIGKILL)
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM)).start()
    try:
        next(results)
    except Stopped:
        return True
    return False


def at_work(place: Path, seconds: float) -> bool:
    """The command ends in one line."""
    results, process = begun(place, "never")
    threading.Timer(seconds, os.kill, (process, signal.SIGKILL)).start()
    try:
        next(results)
    except AttarError as error:
        return "\n" not in str(error)
    return False


KINDS = {
    "an idle process": idle,
    "an idle process, then SIGTERM for the command": idle_then_asked_to_stop,
    "a process at work": at_work,
}
