"""Trainings of one job in processes of their own, and what can be seen of them meanwhile."""

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
    """Where one training sits.

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
    work: Callable[[TrainingSpec], object],
    jobs: int,
    threads: int,
    prepare: Callable[[], object] | None,
    console: Console,
) -> None:
    """Work on every seat, several at a time; what each writes to its log is printed here too.

    Args:
        seats: in the order they begin.
        work: what a process does; it must survive pickling.
        jobs: how many processes.
        threads: of each.
        prepare: called in each first.
        console: where to print.

    Raises:
        AttarError: one failed; the others are asked to save and stop.
        Stopped: the process was asked to stop, and so were they.
    """
    with Watch(specs, console) as watch:
        pool = WorkerPool(jobs, threads, prepare, watch.look)
        for _ in pool.results([(work, (seat,)) for seat in specs]):
            watch.look()


class Watch:
    """Prints what trainings write to their logs, and in a terminal shows a bar for each that is going on.

    Args:
        seats: the trainings.
        console: where to print.
    """

    def __init__(self, specs: list[TrainingSpec], console: Console) -> None:
        self.specs, self.console = specs, console
        # A resumed training's log begins with what was printed before.
        self._read = {seat: _size(seat.folder / LOG) for seat in specs}
        self._bars = bars(console, "{task.completed:.0f}/{task.total:.0f} epochs")
        self._bar = {seat: self._bars.add_task(seat.title, total=seat.epochs, visible=False) for seat in specs}

    def __enter__(self) -> Watch:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.look()
        self._bars.stop()

    def look(self) -> None:
        """What is new since the last look."""
        for seat in self.specs:
            for line in self._new_lines(seat):
                self.console.print(line, markup=False, highlight=False, soft_wrap=True)
            done = _lines(Places(seat.folder).metrics)
            self._bars.update(self._bar[seat], completed=done, visible=_size(seat.folder / LOCK) > 0)

    def _new_lines(self, seat: TrainingSpec) -> list[str]:
        """Whole lines; one that is still being written waits for the next look."""
        log = seat.folder / LOG
        if _size(log) == self._read[seat]:
            return []
        with log.open("rb") as file:
            file.seek(self._read[seat])
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read[seat] += len(whole)
        return whole.decode("utf-8", "replace").splitlines()


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0
