"""Trainings of one job in parallel processes, their logs and their progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from attar.experiments.workers import WorkerPool
from attar.train.loop import Places
from attar.train.progress import bars

LOG = "log.txt"
# Held by the process that works on a training, and empty when nobody does.
LOCK = ".training.lock"


@dataclass(frozen=True)
class TrainingSpec:
    """Which training of a job, and where it is.

    Attributes:
        job: the job's folder.
        seed: of the training.
        alone: whether the student learns without a teacher.
        title: what lines call it.
        folder: the training's own.
        epochs: how many it has.
    """

    job: Path
    seed: int
    alone: bool
    title: str
    folder: Path
    epochs: int


def side_by_side(
    specs: list[TrainingSpec],
    work: Callable[[TrainingSpec], str],
    jobs: int,
    threads: int,
    prepare: Callable[[], object] | None,
    console: Console,
) -> list[tuple[TrainingSpec, str]]:
    """Work on every training, several at a time; what each writes to its log is printed here too.

    Args:
        specs: the trainings, in the order they begin.
        work: what a process does: why it failed, else empty; it must survive pickling.
        jobs: how many processes.
        threads: of each.
        prepare: called in each first.
        console: where to print.

    Returns:
        Those that failed, with the reason.

    Raises:
        AttarError: a process died; the others are asked to save and stop.
        Stopped: the process was asked to stop, and so were they.
    """
    failed = []
    with Watch(specs, console) as watch:
        pool = WorkerPool(jobs, threads, prepare, watch.look)
        for number, reason in pool.results([(work, (spec,)) for spec in specs]):
            watch.look()
            if reason:
                failed.append((specs[number], reason))
    return failed


class Watch:
    """Prints what trainings write to their logs, and in a terminal shows a bar for each that is going on.

    Args:
        specs: the trainings.
        console: where to print.
    """

    def __init__(self, specs: list[TrainingSpec], console: Console) -> None:
        self.specs, self.console = specs, console
        # A resumed training's log begins with what was printed before.
        self._read = {spec: _size(spec.folder / LOG) for spec in specs}
        self._bars = bars(console, "{task.completed:.0f}/{task.total:.0f} epochs")
        self._bar = {spec: self._bars.add_task(spec.title, total=spec.epochs, visible=False) for spec in specs}

    def __enter__(self) -> Watch:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.look()
        self._bars.stop()

    def look(self) -> None:
        """What is new since the last look."""
        for spec in self.specs:
            for line in self._new_lines(spec):
                self.console.print(line, markup=False, highlight=False, soft_wrap=True)
            done = _lines(Places(spec.folder).metrics)
            self._bars.update(self._bar[spec], completed=done, visible=_size(spec.folder / LOCK) > 0)

    def _new_lines(self, spec: TrainingSpec) -> list[str]:
        """Whole lines; one that is still being written waits for the next look."""
        log = spec.folder / LOG
        if _size(log) == self._read[spec]:
            return []
        with log.open("rb") as file:
            file.seek(self._read[spec])
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read[spec] += len(whole)
        return whole.decode("utf-8", "replace").splitlines()


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0
