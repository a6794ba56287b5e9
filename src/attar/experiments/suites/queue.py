"""The order in which the runs of a suite begin: a run waits for its teachers, and for other processes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from attar.experiments.suites.attempts import Outcome, attempt_beside
from attar.experiments.suites.cells import Cell
from attar.experiments.workers import Task

# A run that another process holds is tried again after so long.
LATER_SECONDS = 5.0


class Queue:
    """The runs of a suite that are not done, teachers before those that learn from them.

    Args:
        cells: the runs in their order.
        folder: the suite's.
        choices: the file of what they choose by timing.

    Attributes:
        work: every run, with its teachers before it.
        numbers: the place of each in it, by its title: the number of its task.
        running: those that are being worked on here.
        elsewhere: those that another process held when they were last tried.
    """

    def __init__(self, cells: Iterable[Cell], folder: Path, choices: Path) -> None:
        self.folder, self.choices = folder, choices
        self.work = list({one.title: one for cell in cells for one in (*self._teachers(cell), cell)}.values())
        self.numbers = {one.title: number for number, one in enumerate(self.work)}
        self.waiting, self.running = list(self.work), dict[str, Cell]()
        self.elsewhere, self.failed = dict[str, float](), dict[str, str]()

    @property
    def count(self) -> int:
        """How many runs wait."""
        return len(self.waiting)

    def take(self) -> tuple[int, Task] | None:
        """The next run as a task for a process of its own."""
        cell = self.next()
        return None if cell is None else (self.numbers[cell.title], (attempt_beside, (cell, self.folder, self.choices)))

    def next(self) -> Cell | None:
        """The next run that can begin now; None where all that wait need another one first."""
        for cell in self.waiting:
            if self.elsewhere.get(cell.title, 0.0) <= time.monotonic() and self._has_teachers(cell):
                self.waiting.remove(cell)
                self.running[cell.title] = cell
                return cell
        return None

    def _teachers(self, cell: Cell) -> tuple[Cell, ...]:
        """The teachers of a run; a finished run may have come without them, and needs none."""
        return tuple(one for one in cell.teachers if not self.finished(cell) or (self.folder / one.folder).exists())

    def _has_teachers(self, cell: Cell) -> bool:
        """Whether the teachers of a run are trained or failed; in the second case it fails, too."""
        return all(one.title in self.failed or self.finished(one) for one in self._teachers(cell))

    def finished(self, cell: Cell) -> bool:
        """Whether a run is, whoever did it."""
        return (self.folder / cell.folder / "results.json").exists()

    def note(self, cell: Cell, outcome: Outcome) -> None:
        """What came of a run; one that another process holds waits."""
        self.running.pop(cell.title, None)
        self.elsewhere.pop(cell.title, None)
        if outcome.state == "later":
            self.elsewhere[cell.title] = time.monotonic() + LATER_SECONDS
            self.waiting.append(cell)
        elif outcome.state == "failed":
            self.failed[cell.title] = outcome.reason
