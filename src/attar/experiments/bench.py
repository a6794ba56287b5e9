"""`attar bench`: methods x pairs x seeds, a run folder each, and a table that is written after each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from attar.accel.threads import Share
from attar.errors import AttarError, Stopped
from attar.experiments import launch
from attar.experiments.job import Job
from attar.experiments.kept_choices import FILE as CHOICES
from attar.experiments.kept_choices import Choices
from attar.experiments.shared_resources import SharedResources
from attar.experiments.suite import REMOVED, load_suite, parsed, unknown_key
from attar.experiments.suite_check import check_recipe, check_suite
from attar.experiments.workers import Task, WorkerPool
from attar.files import write_text
from attar.metrics import Measure
from attar.profiling import read_results
from attar.recipe import Recipe, layered, read_recipe
from attar.report.run_files import read_run
from attar.report.summary import counted, spread, values_of
from attar.report.tables import Table
from attar.tasks import task_of


@dataclass(frozen=True)
class Cell:
    """One run of a suite.

    Attributes:
        row: the method with its options, as the table names it.
        column: the pair.
        seed: of this run.
        values: the recipe's values, as `read_recipe` takes them.
    """

    row: str
    column: str
    seed: int
    values: dict[str, Any]

    @property
    def folder(self) -> Path:
        """Where the run goes, below the suite's folder."""
        return Path(*(re.sub(r"[^\w.+=-]+", "_", part) for part in (self.column, self.row))) / f"seed{self.seed}"

    @property
    def title(self) -> str:
        return f"{self.row}, {self.column}, seed {self.seed}"

    def run(self, folder: Path) -> tuple[str, Path, dict[str, Any]]:
        """Its title, its folder in that of the suite, and its recipe's values."""
        return self.title, folder / self.folder, self.values


@dataclass
class Bench:
    """A suite and what has come of it so far.

    Attributes:
        cells: every run, seeds outermost, so that a table of one seed is complete early.
        folder: where the runs and the table go.
        console: where to print.
        jobs: how many processes work at a time, which share the processor's threads; None: found by trying on a CPU.
        prepare: called in every such process before its first run; None: no process is started unasked.
        scores: the primary measure on the test set as people read it, by row and column.
        failures: what went wrong, by the run's title.
    """

    cells: list[Cell]
    folder: Path
    console: Console
    jobs: int | None = None
    prepare: Callable[[], object] | None = None
    scores: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def run(self) -> Table:
        """Do what is not done yet; a run that fails is named in the end and does not stop the others.

        Raises:
            AttarError: a run cannot begin (nothing has been written then), or runs failed; the table of the others is
                written.
            Stopped: the process was asked to stop; the same command goes on.
        """
        try:
            shared = SharedResources(choices=self._choices)
            runs = [((cell.row, cell.column), cell.run(self.folder)) for cell in self.cells]
            check_suite(self.folder, runs, shared)
            for cell, outcome in self._outcomes(self._share(shared), shared):
                self._note(cell, outcome)
        except Stopped:
            raise Stopped from None
        if self.failures:
            listed = "; ".join(f"{title}: {reason}" for title, reason in self.failures.items())
            raise AttarError(f"{len(self.failures)} of {len(self.cells)} runs failed: {listed}")
        return self.table()

    def _note(self, cell: Cell, outcome: float | AttarError) -> None:
        if isinstance(outcome, AttarError):
            self.failures[cell.title] = str(outcome)
            self.console.print(f"failed: {cell.title}: {outcome}", markup=False, soft_wrap=True)
        else:
            self.scores.setdefault((cell.row, cell.column), []).append(outcome)
        self._write()
        if (self.folder / cell.folder / "results.json").exists():
            for hint in read_run(self.folder / cell.folder).summary.hints():
                self.console.print(f"{cell.title}: {hint}", markup=False, soft_wrap=True)

    def _outcomes(self, share: Share, shared: SharedResources) -> Iterator[tuple[Cell, float | AttarError]]:
        """Every run and what came of it; what runs beside others print goes to log.txt in their folders."""
        if share.jobs == 1:
            for number, cell in enumerate(self.cells, 1):
                self._announce(number, cell)
                yield cell, attempt(self.folder / cell.folder, cell.values, self.console, shared)
            return
        shared.clear()  # they read their own
        file = self.folder / CHOICES
        tasks: list[Task] = [(attempt_beside, (self.folder / cell.folder, cell.values, file)) for cell in self.cells]
        results = WorkerPool(share.jobs, share.threads, self.prepare).results(tasks)
        for number, (index, outcome) in enumerate(results, 1):
            self._announce(number, self.cells[index])
            yield self.cells[index], outcome

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
        waiting = [cell for cell in self.cells if not (self.folder / cell.folder / "results.json").exists()]
        if not waiting:
            return Share(here)
        _, folder, values = waiting[0].run(self.folder)
        shared = shared or SharedResources(choices=self._choices)
        job = Job(read_recipe(**values), folder, Console(quiet=True), shared=shared)
        choice = job.runtime_choice
        runtime = choice.precision()
        share = Share(max(1, here // self.jobs), self.jobs) if self.jobs else None
        share = share or choice.share_of(len(waiting), apart=bool(self.prepare) and len(waiting) > 1)
        for line in filter(None, (runtime.reason, share.line)):
            self.console.print(line, markup=False, soft_wrap=True)
        return share

    def _announce(self, number: int, cell: Cell) -> None:
        self.console.print(f"[{number}/{len(self.cells)}] {cell.title}", markup=False, style="bold")

    def table(self) -> Table:
        """The primary measure, methods down and pairs across, mean and deviation over the seeds."""
        rows, columns = (list(dict.fromkeys(getattr(cell, axis) for cell in self.cells)) for axis in ("row", "column"))
        seeds = len({cell.seed for cell in self.cells})
        body = [[row, *(self._entry(row, column) for column in columns)] for row in rows]
        title = f"Test {self.measure.title}, {seeds} seed{'s' if seeds > 1 else ''}"
        return Table(title, ["method", *columns], body)

    @property
    def measure(self) -> Measure:
        """The primary measure of the suite's task."""
        return measure_of(read_recipe(**self.cells[0].values))

    def _entry(self, row: str, column: str) -> str:
        values = self.scores.get((row, column), [])
        of_entry = [cell.title for cell in self.cells if (cell.row, cell.column) == (row, column)]
        failed = sum(title in self.failures for title in of_entry)
        return counted(spread(values, self.measure.digits) if values else "", len(values), len(of_entry), failed)

    def _write(self) -> None:
        table = self.table()
        write_text(self.folder / "table.md", table.markdown() + "\n")
        write_text(self.folder / "table.csv", table.csv())
        self.console.print(table)


# Of a process that works on several runs of a suite, one after another.
_shared = SharedResources()


def attempt_beside(folder: Path, values: dict[str, Any], choices: Path) -> float | AttarError:
    """One run in a process of its own, what it prints in the log of its folder."""
    _shared.choices = Choices(choices)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("a", encoding="utf-8", errors="backslashreplace") as log:
        return attempt(folder, values, Console(file=log, width=100), _shared)


def attempt(folder: Path, values: dict[str, Any], console: Console, shared: SharedResources) -> float | AttarError:
    """The test score of one run, or why there is none."""
    try:
        return score_of(folder, values, console, shared)
    except AttarError as error:
        return error


def measure_of(recipe: Recipe) -> Measure:
    """The primary measure of a recipe's task."""
    return task_of(recipe).metrics().primary


def score_of(folder: Path, values: dict[str, Any], console: Console, shared: SharedResources) -> float:
    """The primary measure of one run on the test set: read where it is finished, resumed where it broke off."""
    if not (folder / "results.json").exists():
        if (folder / "recipe.yaml").exists():
            check_recipe(folder, values)
            launch.reopen(folder, console, shared).run()
        else:
            launch.prepare(read_recipe(**values, out=str(folder)), console, None, shared).run()
    _, runs, _ = read_results(folder)
    return values_of(measure_of(read_recipe(**values)), [runs[0]["student"].scores])[0]


def read_suite(file: str | Path, overrides: list[str], console: Console) -> Bench:
    """A suite from a YAML file.

    The file has `methods` (names, or a name with options), `pairs` (teacher and student, as in a recipe), `seeds` (how
    many) and `recipe` (every other key, for all runs). A teacher without weights is trained for each run, so give
    weights.

    Args:
        file: the suite.
        overrides: key=value changes to the common recipe; out=FOLDER, by default runs/bench-NAME; and jobs=N,
            how many processes at a time (by default found by trying, on a CPU).
        console: where to print.

    Raises:
        AttarError: the file or a key is wrong; every recipe is checked here, before the first run.
    """
    path, (overrides, jobs) = Path(file), _count("jobs", overrides)
    for key in (override.partition("=")[0] for override in overrides):
        if key in REMOVED:
            raise unknown_key(key, ())
    suite = load_suite(path)
    out = next((o.partition("=")[2] for o in overrides if o.startswith("out=")), f"runs/bench-{path.stem}")
    cells = list(_cells(suite, layered(suite["recipe"], layered(*parsed(overrides)))))
    for cell in cells:
        read_recipe(**cell.values)
    return Bench(cells, Path(out), console, jobs)


def _count(key: str, overrides: list[str]) -> tuple[list[str], int | None]:
    """The overrides without KEY=N, and N."""
    given = [override.partition("=")[2] for override in overrides if override.startswith(f"{key}=")]
    if given and not (given[-1].isdecimal() and int(given[-1]) > 0):
        raise AttarError(f"{key} must be a whole number from 1, got {given[-1]!r}")
    return [o for o in overrides if not o.startswith(f"{key}=")], int(given[-1]) if given else None


def _cells(suite: dict[str, Any], common: dict[str, Any]) -> Iterator[Cell]:
    """Every combination, the seeds outermost."""
    for seed in range(suite["seeds"]):
        for pair in suite["pairs"]:
            both = layered(common, pair)
            names = [both[role]["name"] for role in ("teacher", "student") if both.get(role, {}).get("name")]
            for method in suite["methods"]:
                method = {"name": method} if isinstance(method, str) else method
                options = [f"{key}={value}" for key, value in method.items() if key != "name"]
                values = {"alone": "skip", **both, "method": method, "seed": seed}
                yield Cell(" ".join([method["name"], *options]), " -> ".join(names), seed, values)
