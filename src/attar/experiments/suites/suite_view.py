"""What `attar bench` shows while it runs: a table that fills in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from attar.experiments.suites.attempts import Outcome
from attar.experiments.suites.cells import Cell
from attar.experiments.suites.queue import Queue
from attar.recipe import read_recipe
from attar.report.bench_files import read_note
from attar.report.tables import Table
from attar.train.loop import Places

REFRESH_SECONDS = 0.5


def duration(seconds: float) -> str:
    """A time as people say it.

    >>> duration(8), duration(170), duration(5400), duration(90_000), duration(200_000)
    ('8 s', '3 min', '1 h 30 min', '25 h', '2 days 7 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours} h" if hours < 48 else f"{hours // 24} days {hours % 24} h"


@dataclass
class TimeLeft:
    """How long the runs of a suite that wait will take, from those that are done.

    Attributes:
        folder: the suite's.
        jobs: how many go at a time.
        seconds: how long runs of each kind took.
        begun: when each run that goes on began.
    """

    folder: Path
    jobs: int
    seconds: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    begun: dict[str, float] = field(default_factory=dict)

    def start(self, cell: Cell) -> None:
        """A run begins."""
        self.begun[cell.title] = time.monotonic()

    def end(self, cell: Cell, done: bool = True) -> None:
        """A run has ended; those that are done show how long others take."""
        self.begun.pop(cell.title, None)
        if done and (spent := read_note(self.folder / cell.folder).seconds):
            self.seconds.setdefault(cell.kind, []).append(spent)

    def of(self, cell: Cell) -> float | None:
        """How long a run takes: as others of its kind did, of its method, or all; None where none is done."""
        kinds = [
            [one for kind, times in self.seconds.items() if keep(kind) for one in times]
            for keep in (lambda kind: kind == cell.kind, lambda kind: kind[0] == cell.row, lambda kind: bool(kind[1]))
        ]
        return next((fmean(times) for times in kinds if times), None)

    def left(self, queue: Queue) -> float | None:
        """The seconds until all that wait and go on are done; None where nothing is known."""
        now, total = time.monotonic(), 0.0
        for cell in [*queue.waiting, *queue.running.values()]:
            if queue.finished(cell):  # done before; it is only read
                continue
            whole = self.of(cell)
            if whole is None:
                return None
            spent = now - self.begun.get(cell.title, now)
            total += max(0.0, whole - spent)
        return total / self.jobs


class SuiteView:
    """Follows the runs of a suite.

    Args:
        console: where to print.
        queue: the runs.
        jobs: how many go at a time.
        table: the suite's table as it is now.
    """

    def __init__(self, console: Console, queue: Queue, jobs: int, table: Callable[[], list[Table]]) -> None:
        self.console, self.queue, self.table = console, queue, table
        self.times = TimeLeft(queue.folder, jobs)
        self.ended, self._waits = 0, False
        self._lengths: dict[str, int] = {}
        for cell in queue.work:
            if queue.finished(cell):
                self.times.end(cell)
        self._tables = table() if console.is_terminal else []
        self._live = Live(
            get_renderable=self._drawing,
            console=console,
            refresh_per_second=1 / REFRESH_SECONDS,
            transient=True,
            auto_refresh=console.is_terminal,
        )

    def __enter__(self) -> SuiteView:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def start(self, cell: Cell) -> None:
        """A run begins."""
        self.times.start(cell)
        self._lengths[cell.title] = read_recipe(**cell.values).epochs if self.console.is_terminal else 0
        self._waits = False

    def end(self, cell: Cell, outcome: Outcome, score: str) -> None:
        """A run is done, has failed or waits for another process."""
        self.times.end(cell, outcome.state == "done")
        if outcome.state == "later":
            return
        self.ended += 1
        spent = read_note(self.queue.folder / cell.folder).seconds
        took = f" ({duration(spent)})" if spent else ""
        what = (
            f"failed: {cell.title}: {outcome.reason}" if outcome.state == "failed" else f"{cell.title}: {score}{took}"
        )
        if self.console.is_terminal:
            self._tables = self.table()
            if outcome.state == "failed":
                self.print(what)
        else:
            self.print(f"[{self.ended}/{len(self.queue.work)}] {what}{self._more()}")

    def waits(self) -> None:
        """Nothing is left but what other processes hold."""
        if not self._waits and not self.console.is_terminal:
            count = len(self.queue.elsewhere)
            self.print(f"waiting for {count} run{'s' if count > 1 else ''} of other processes; Ctrl-C leaves them")
        self._waits = True

    def print(self, line: str) -> None:
        """A line that stays."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _more(self) -> str:
        left = self.times.left(self.queue)
        return f", about {duration(left)} left" if left else ""

    def _drawing(self) -> RenderableType:
        """How far it is, what goes on, and the table."""
        queue = self.queue
        parts = [f"{self.ended} of {len(queue.work)} runs done"]
        parts += [f"{len(queue.failed)} failed"] * bool(queue.failed)
        parts += [f"{len(queue.elsewhere)} at other processes"] * bool(queue.elsewhere)
        lines = [Text(f"{', '.join(parts)}{self._more()}", style="bold")]
        for cell in list(queue.running.values()):
            lines.append(Text(f"  {cell.title}{self._epochs(cell)}", overflow="ellipsis", no_wrap=True))
        return Group(*lines, *self._tables)

    def _epochs(self, cell: Cell) -> str:
        """How many epochs of a run are done."""
        file = Places(self.queue.folder / cell.folder).metrics
        done = file.read_bytes().count(b"\n") if file.exists() else 0
        return f": epoch {done} of {self._lengths[cell.title]}" if done else ""
