"""`attar bench`: methods x pairs x seeds, a run folder each, and tables that are written after each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from attar.accel.threads import Share
from attar.errors import AttarError, Stopped
from attar.experiments.job import Job
from attar.experiments.kept_choices import FILE as CHOICES
from attar.experiments.kept_choices import Choices
from attar.experiments.shared_resources import SharedResources
from attar.experiments.suites.attempts import Outcome, attempt_logged
from attar.experiments.suites.cells import Cell, cells_of, control_of
from attar.experiments.suites.queue import Queue
from attar.experiments.suites.suite import Options, load_suite, parsed
from attar.experiments.suites.suite_check import check_suite
from attar.experiments.suites.suite_view import SuiteView
from attar.experiments.workers import POLL_SECONDS, Task, WorkerPool
from attar.files import write_json
from attar.recipe import layered, read_recipe
from attar.report.bench_files import CELLS, read_bench
from attar.report.bench_page import write_bench_page, write_tables
from attar.report.bench_tables import BenchTables
from attar.report.run_files import RunFiles
from attar.report.summary import values_of
from attar.report.tables import Table
from attar.safety.signals import stop_requests


@dataclass
class Bench:
    """A suite and what has come of it so far.

    Attributes:
        cells: every run, seeds outermost, so that a table of one seed is complete early.
        folder: where the runs and the tables go.
        console: where to print.
        control: the row that the others are compared with.
        jobs: how many processes work at a time, which share the processor's threads; None: found by trying on a CPU.
        part: (K, N): do only the K-th of N parts of the runs.
        literature: whether tables have the numbers that papers published.
        prepare: called in every such process before its first run; None: no process is started unasked.
        failures: what went wrong, by the run's title.
    """

    cells: list[Cell]
    folder: Path
    console: Console
    control: str
    jobs: int | None = None
    part: tuple[int, int] | None = None
    literature: bool = False
    prepare: Callable[[], object] | None = None
    failures: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._read: dict[Path, RunFiles] = {}

    @property
    def own(self) -> list[Cell]:
        """The runs of this process: all, or every N-th."""
        if self.part is None:
            return self.cells
        number, count = self.part
        return self.cells[number - 1 :: count]

    def run(self) -> list[Table]:
        """Do what is not done yet; a run that fails is named in the end and does not stop the others.

        Returns:
            The tables for a terminal.

        Raises:
            AttarError: a run cannot begin (nothing has been written then), or runs failed; the tables of the others
                are written.
            Stopped: the process was asked to stop; the same command goes on.
        """
        try:
            shared = SharedResources(choices=self._choices)
            self.check(shared)
            self._list_cells()
            share = self._share(shared)
            try:
                self._work(share, shared)
            finally:
                self._write(page=True)
        except Stopped:
            raise Stopped from None
        if self.failures:
            listed = "; ".join(f"{title}: {reason}" for title, reason in self.failures.items())
            raise AttarError(f"{len(self.failures)} of {len(self.own)} runs failed: {listed}")
        return self.tables().short_tables()

    def check(self, shared: SharedResources | None = None) -> None:
        """Check every run before the first begins.

        Raises:
            AttarError: why the suite cannot begin.
        """
        shared = shared or SharedResources(choices=self._choices)
        work = Queue(self.cells, self.folder, self.folder / CHOICES).work
        check_suite(self.folder, [(one.kind, self._as_it_is(one)) for one in work], shared)

    def _as_it_is(self, cell: Cell) -> tuple[str, Path, dict[str, Any]]:
        """A run with the values that it can be checked with: its teachers may not be trained yet."""
        begun = (self.folder / cell.folder / "recipe.yaml").exists()
        there = all((self.folder / one.folder / "results.json").exists() for one in cell.teachers)
        return cell.title, self.folder / cell.folder, cell.values if begun or there else cell.untrained

    def _work(self, share: Share, shared: SharedResources) -> None:
        queue = Queue(self.own, self.folder, self.folder / CHOICES)
        view = SuiteView(self.console, queue, share.jobs, lambda: self.tables().short_tables())
        with view:
            for cell, outcome in self._outcomes(queue, view, share, shared):
                queue.note(cell, outcome)
                self._note(cell, outcome, view)

    def _note(self, cell: Cell, outcome: Outcome, view: SuiteView) -> None:
        if outcome.state != "later":
            failed = {one.folder: reason for one, reason in self._write().files.failed.items()}
            reason = outcome.reason or failed.get(self.folder / cell.folder, "")
            outcome = Outcome("failed", reason) if reason else outcome
        if outcome.state == "failed" and not cell.trains_teacher:
            self.failures[cell.title] = outcome.reason
        view.end(cell, outcome, self._score(cell))
        run = self._read.get(self.folder / cell.folder)
        for hint in run.summary.hints() if run else []:
            view.print(f"{cell.title}: {hint}")

    def _score(self, cell: Cell) -> str:
        """The primary measure of a run that is done."""
        run = self._read.get(self.folder / cell.folder)
        if run is None:
            return "trained"
        measure = run.summary.measure
        return measure.value(values_of(measure, [run.summary.runs[0]["student"].scores])[0])

    def _outcomes(
        self, queue: Queue, view: SuiteView, share: Share, shared: SharedResources
    ) -> Iterator[tuple[Cell, Outcome]]:
        """Every run and what came of it; what runs print goes to log.txt in their folders."""
        if share.jobs == 1:
            yield from self._one_by_one(queue, view, shared)
            return
        shared.clear()  # they read their own
        pool = WorkerPool(share.jobs, share.threads, self.prepare)
        for number, outcome in pool.results(_Announced(queue, view)):
            yield queue.work[number], outcome

    def _one_by_one(self, queue: Queue, view: SuiteView, shared: SharedResources) -> Iterator[tuple[Cell, Outcome]]:
        with stop_requests() as stop:
            while queue.count:
                if stop.requested:
                    raise Stopped
                if (cell := queue.next()) is None:
                    view.waits()
                    time.sleep(POLL_SECONDS)
                    continue
                view.start(cell)
                yield cell, attempt_logged(cell, self.folder, shared)

    @property
    def _choices(self) -> Choices:
        """What the runs choose by timing, once for all of them."""
        return Choices(self.folder / CHOICES)

    def _share(self, shared: SharedResources | None = None) -> Share:
        """How the runs share the processor, as the suite began; jobs= may change how many go at a time.

        Threads decide the last bits, so no run has others than those before it.
        """
        share = Share(**self._choices.once("share of the suite", "", lambda: asdict(self._found_share(shared))))
        self._choices.once("threads", "", lambda: share.threads)
        self._choices.once("share", "", lambda: asdict(Share(share.threads)))
        return replace(share, jobs=self.jobs, line="") if self.jobs else share

    def _found_share(self, shared: SharedResources | None = None) -> Share:
        """What the first run that is not finished finds by trying, with the precision of all of them."""
        here = torch.get_num_threads()
        waiting = [cell for cell in self.own if not (self.folder / cell.folder / "results.json").exists()]
        if not waiting:
            return Share(here)
        _, folder, values = self._as_it_is(waiting[0])
        shared = shared or SharedResources(choices=self._choices)
        job = Job(read_recipe(**values), folder, Console(quiet=True), shared=shared)
        choice = job.runtime_choice
        runtime = choice.precision()
        share = Share(max(1, here // self.jobs), self.jobs) if self.jobs else None
        share = share or choice.share_of(len(waiting), apart=bool(self.prepare) and len(waiting) > 1)
        for line in filter(None, (runtime.reason, share.line)):
            self.console.print(line, markup=False, soft_wrap=True)
        return share

    def _list_cells(self) -> None:
        """Write which runs there are, for the tables and for `attar compare`."""
        listed = [
            {"row": cell.row, "column": cell.column, "seed": cell.seed, "folder": cell.folder.as_posix()}
            for cell in self.cells
        ]
        tree = {"control": self.control, "literature": self.literature, "cells": listed}
        write_json(self.folder / CELLS, tree)

    def tables(self) -> BenchTables:
        """The tables of everything that is done, here or elsewhere."""
        return BenchTables(read_bench(self.folder, self._read))

    def _write(self, page: bool = False) -> BenchTables:
        """The tables; the page is written when the work ends."""
        tables = self.tables()
        write_tables(tables)
        if page:
            write_bench_page(tables)
        return tables


@dataclass
class _Announced:
    """A queue whose runs are shown when they begin."""

    queue: Queue
    view: SuiteView

    @property
    def count(self) -> int:
        return self.queue.count

    def take(self) -> tuple[int, Task] | None:
        task = self.queue.take()
        if task is not None:
            self.view.start(self.queue.work[task[0]])
        elif not self.queue.running:
            self.view.waits()
        return task


def read_suite(file: str | Path, overrides: list[str], console: Console, against: tuple[str, ...] = ()) -> Bench:
    """A suite from a YAML file.

    The file has `methods` (names, or a name with options and keys of a recipe; a list stands for several methods),
    `pairs` (teacher and student, as in a recipe; lists as well), `seeds` (how many, or a list), `recipe` (every other
    key, for all runs) and `control` (the row that others are compared with, by default the first). A teacher without
    weights is trained once for each pair and seed.

    Args:
        file: the suite.
        overrides: key=value changes to the common recipe; out=FOLDER, by default runs/bench-NAME; jobs=N, how many
            processes at a time (by default found by trying, on a CPU); and share=K/N, only the K-th of N parts.
        console: where to print.
        against: another control, or "literature" for the numbers that papers published, or both.

    Raises:
        AttarError: the file or a key is wrong; every recipe is checked here, before the first run.
    """
    path, options = Path(file), Options.of(overrides)
    suite = load_suite(path)
    folder = Path(options.out or f"runs/bench-{path.stem}")
    cells = cells_of(suite, layered(suite["recipe"], layered(*parsed(options.recipe))), folder)
    rows = list(dict.fromkeys(cell.row for cell in cells))
    named = [name for name in against if name != "literature"] or [suite["control"] or rows[0]]
    if len(named) > 1:
        raise AttarError(f"--against {' --against '.join(named)}: give one control, and literature beside it")
    literature = "literature" in against
    return Bench(cells, folder, console, control_of(named[0], rows), options.jobs, options.share, literature)
