"""One run of a suite, tried: done, failed with a reason, or for later because another process works on it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from rich.console import Console

from attar.errors import AttarError, first_line
from attar.experiments import launch
from attar.experiments.kept_choices import Choices
from attar.experiments.parallel import LOG
from attar.experiments.shared_resources import SharedResources
from attar.experiments.suites.cells import Cell
from attar.experiments.suites.suite_check import check_recipe
from attar.files import write_json, write_text
from attar.recipe import read_recipe, to_yaml
from attar.report.bench_files import NOTE, Note, read_note
from attar.safety.locks import InUseError, held

# Held by the process that works on a run of a suite.
LEASE = ".cell.lock"


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
        state: done, failed, or later: another process holds it.
        reason: why it failed, or who holds it.
    """

    state: Literal["done", "failed", "later"]
    reason: str = ""


def attempt(cell: Cell, suite: Path, console: Console, shared: SharedResources) -> Outcome:
    """Do a run, go on with it where it broke off, or read it where it is finished.

    Raises:
        Stopped: the process was asked to stop; the run is saved.
    """
    folder = suite / cell.folder
    try:
        if not _finished(folder):
            with held(folder / LEASE), noted(folder):
                check_teachers(cell, suite)
                work(cell, folder, console, shared)
        elif not _reported(folder):
            with suppress(AttarError), held(folder / LEASE):  # a table can do without
                work(cell, folder, console, shared)
    except InUseError as error:
        return Outcome("later", str(error))
    except AttarError as error:
        return Outcome("failed", str(error))
    return Outcome("done")


def attempt_beside(cell: Cell, suite: Path, choices: Path) -> Outcome:
    """The same in a process of its own, which keeps what it has read for its next run."""
    _shared.choices = Choices(choices)
    return attempt_logged(cell, suite, _shared)


def attempt_logged(cell: Cell, suite: Path, shared: SharedResources) -> Outcome:
    """The same, what it prints in the log of the run's folder."""
    folder = suite / cell.folder
    if _finished(folder) and _reported(folder):
        return attempt(cell, suite, Console(quiet=True), shared)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOG).open("a", encoding="utf-8", errors="backslashreplace") as log:
        return attempt(cell, suite, Console(file=log, width=100), shared)


# Of a process that works on several runs of a suite, one after another.
_shared = SharedResources()


def check_teachers(cell: Cell, suite: Path) -> None:
    """Raise where a teacher of a run is not trained.

    Raises:
        AttarError: it names the teacher, and why.
    """
    for one in cell.teachers:
        if not _finished(suite / one.folder):
            raise AttarError(f"its {one.row} failed: {read_note(suite / one.folder).failed or 'it is not trained'}")


def work(cell: Cell, folder: Path, console: Console, shared: SharedResources) -> None:
    """Train what is not trained yet of a run.

    Raises:
        AttarError: why it cannot be done; also where a network or a method raises anything else, in one line.
    """
    try:
        if (folder / "recipe.yaml").exists():
            check_recipe(folder, cell.values)
            _point_at_teachers(cell, folder)
            launch.reopen(folder, console, shared).run()
        else:
            launch.prepare(read_recipe(**cell.values, out=str(folder)), console, None, shared).run()
    except AttarError:
        raise
    except Exception as error:  # one run does not end the others
        console.print(traceback.format_exc(), markup=False, highlight=False, soft_wrap=True)
        raise AttarError(f"{type(error).__name__}: {first_line(error)} ({folder / LOG})") from error


def _point_at_teachers(cell: Cell, folder: Path) -> None:
    """Where a suite's folder has moved, its teachers have moved with it."""
    there, wanted = read_recipe(folder / "recipe.yaml"), read_recipe(**cell.values)
    if cell.teachers and there.teacher.weights != wanted.teacher.weights:
        write_text(folder / "recipe.yaml", to_yaml(replace(there, teacher=wanted.teacher)))


def _finished(folder: Path) -> bool:
    return (folder / "results.json").exists()


def _reported(folder: Path) -> bool:
    """Whether the report of a finished run is written, too: a process may have been killed before it.

    Folders that keep their results alone are left as they are.
    """
    return (folder / "report.html").exists() or not (folder / "scores.json").exists()


@contextmanager
def noted(folder: Path) -> Iterator[None]:
    """Note in a run's folder how long it is worked on, and why it failed.

    A process that is killed leaves the time at which it began; until when it worked, its last checkpoint shows.
    """
    before, begun = read_note(folder), time.time()
    if before.begun is not None:
        files = [file for name in ("checkpoint.pt", "metrics.jsonl", LOG) if (file := folder / name).exists()]
        last = max((file.stat().st_mtime for file in files if file.name != LOG), default=before.begun)
        before = replace(before, seconds=before.seconds + max(0.0, last - before.begun))
    started, failed = time.monotonic(), ""
    _write_note(folder, replace(before, begun=begun, failed=""))
    try:
        yield
    except InUseError:
        raise
    except AttarError as error:
        failed = str(error)
        raise
    finally:
        _write_note(folder, Note(before.seconds + time.monotonic() - started, failed))


def _write_note(folder: Path, note: Note) -> None:
    write_json(folder / NOTE, asdict(note))
