"""A suite read back from its folder: which cells there are, what came of each, and the runs of a row pooled."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from attar.errors import AttarError
from attar.recipe import listed
from attar.records import damaged, read_json
from attar.report.run_files import RunFiles, read_run
from attar.report.summary import Network, Summary, values_of

# The cells of a suite, in its folder; what is noted of one, in the cell's.
CELLS, NOTE = "cells.json", "cell.json"
REMEDY = "run attar bench again, which writes it"


@dataclass(frozen=True)
class BenchCell:
    """A run of a suite.

    Attributes:
        row: the method with its options.
        column: the pair.
        seed: of the run.
        folder: where it is.
    """

    row: str
    column: str
    seed: int
    folder: Path

    @property
    def title(self) -> str:
        return f"{self.row}, {self.column}, seed {self.seed}"


@dataclass(frozen=True)
class PooledRuns(RunFiles):
    """Runs that differ in their seed only, as one run of several seeds.

    Attributes:
        members: the runs, by their seeds.
    """

    members: tuple[RunFiles, ...] = ()

    @property
    def _first(self) -> RunFiles:
        return self.members[0]

    @cached_property
    def environment(self) -> dict[str, Any]:
        return self._first.environment

    @cached_property
    def graph(self) -> str:
        return self._first.graph

    def seed_folder(self, seed: int) -> Path:
        """Where one seed's files lie."""
        return next(one.seed_folder(seed) for one in self.members if seed in one.seeds)

    def places(self, key: str) -> list[Path]:
        """The folder of a network's training for each seed."""
        members = [self._first] if key.startswith("teacher") else self.members
        return [place for one in members for place in one.places(key)]


def pooled(folder: Path, members: Sequence[RunFiles]) -> PooledRuns:
    """Runs that differ in their seed only, as one."""
    first, found = members[0], [one.summary for one in members]
    summary = Summary(
        first.recipe,
        first.summary.teachers,
        [run for one in found for run in one.runs],
        folder,
        first.summary.scoring,
        {seed: reason for one in found for seed, reason in one.failed.items()},
        tuple(seed for one in found for seed in one.seeds),
    )
    return PooledRuns(folder, summary, tuple(members))


@dataclass
class BenchFiles:
    """The files of a suite.

    Attributes:
        folder: the suite's.
        cells: every run that it asks for.
        control: the row that the others are compared with.
        literature: whether tables have the numbers that papers published.
        runs: the finished runs that are read already.
    """

    folder: Path
    cells: list[BenchCell]
    control: str
    literature: bool = False
    runs: dict[Path, RunFiles] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._failed: dict[BenchCell, str] = {}

    @property
    def rows(self) -> list[str]:
        """The methods, in the suite's order."""
        return list(dict.fromkeys(cell.row for cell in self.cells))

    @property
    def columns(self) -> list[str]:
        """The pairs."""
        return list(dict.fromkeys(cell.column for cell in self.cells))

    @property
    def seeds(self) -> list[int]:
        return list(dict.fromkeys(cell.seed for cell in self.cells))

    def read(self) -> None:
        """Read what has been finished or has failed since the last time."""
        self._failed = {}
        for cell in self.cells:
            if cell.folder in self.runs:
                continue
            if not (cell.folder / "results.json").is_file():
                if reason := read_note(cell.folder).failed:
                    self._failed[cell] = reason
                continue
            try:
                self.runs[cell.folder] = read_run(cell.folder)
            except AttarError as error:
                self._failed[cell] = str(error)

    @property
    def failed(self) -> dict[BenchCell, str]:
        """The cells that failed, with the reason."""
        return dict(self._failed)

    @property
    def done(self) -> list[BenchCell]:
        """The cells that are finished and can be read."""
        return [cell for cell in self.cells if cell.folder in self.runs]

    def of(self, row: str, column: str) -> list[BenchCell]:
        """The cells of an entry of the table."""
        return [cell for cell in self.cells if (cell.row, cell.column) == (row, column)]

    def pooled_runs(self) -> list[RunFiles]:
        """Every entry of the table that has a finished run, the control's before the others of its pair."""
        rows = sorted(self.rows, key=lambda row: row != self.control)
        found = [self.run_of(row, column) for column in self.columns for row in rows]
        return [run for run in found if run is not None]

    def run_of(self, row: str, column: str) -> RunFiles | None:
        """The finished runs of an entry as one; None where there is none."""
        found = [self.runs[cell.folder] for cell in self.of(row, column) if cell.folder in self.runs]
        return pooled(self.of(row, column)[0].folder.parent, found) if found else None

    def teachers(self, column: str) -> list[Network]:
        """The teachers of a pair, each with a result for every seed; teachers of other weights have a line each.

        So have teachers that were trained again, for rows that were added when the first ones were gone.
        """
        found: dict[tuple[str, str, int], dict[str, Any]] = {}
        networks: dict[tuple[str, str, int], Network] = {}
        rows: dict[tuple[str, str, int], dict[str, None]] = {}
        trainings: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for cell in [cell for cell in self.done if cell.column == column]:
            run = self.runs[cell.folder]
            # A suite that has moved has teachers in two folders of one end.
            weights = repr([Path(file).parts[-4:] for file in listed(run.recipe.teacher.weights or "")])
            for network in run.summary.networks():
                if network.key.startswith("teacher"):
                    known = trainings.setdefault((network.key, weights), [])
                    if (training := teachers_fingerprints(run.folder)) not in known:
                        known.append(training)
                    kind = network.key, re.sub(r"\bseed\d+\b", "seed", weights), known.index(training)
                    found.setdefault(kind, {}).setdefault(weights, network.results[0])
                    networks.setdefault(kind, network)
                    rows.setdefault(kind, {})[cell.row] = None

        def label(kind: tuple[str, str, int]) -> str:
            alone = sum(key == kind[0] for key, *_ in found) == 1
            return networks[kind].label + ("" if alone else f" of {', '.join(rows[kind])}")

        return [
            replace(networks[kind], label=label(kind), results=list(found[kind].values()))
            for kind in sorted(found, key=lambda kind: kind[0])
        ]

    def seconds(self, row: str, column: str) -> list[float]:
        """How long the finished runs of an entry took."""
        cells = [cell for cell in self.of(row, column) if cell.folder in self.runs]
        return [seconds for cell in cells if (seconds := read_note(cell.folder).seconds)]


def teachers_fingerprints(folder: Path) -> dict[str, Any]:
    """The fingerprints of the weights of a run's teachers; empty where none were recorded."""
    try:
        tree = read_json(folder / "inputs.json", REMEDY)
    except AttarError:
        return {}
    found = tree if isinstance(tree, dict) else {}
    return {key: value for key, value in found.items() if key.startswith("weights of teacher")}


def by_seed(run: RunFiles) -> dict[int, float]:
    """The primary measure of a run's students, by seed."""
    scores = [results["student"].scores for results in run.summary.runs]
    return dict(zip(run.seeds, values_of(run.summary.measure, scores), strict=True))


@dataclass(frozen=True)
class Note:
    """What a suite notes of a cell.

    Attributes:
        seconds: how long it has been worked on, over all processes.
        failed: why it failed; empty where it did not.
        begun: when the process that works on it now began, in seconds since 1970; None where nobody does.
    """

    seconds: float = 0.0
    failed: str = ""
    begun: float | None = None


def read_note(folder: Path) -> Note:
    """What is noted of a cell; nothing where the file is missing or damaged, because a table can do without."""
    try:
        tree = read_json(folder / NOTE, REMEDY)
    except AttarError:
        return Note()
    if not isinstance(tree, dict):
        return Note()
    seconds, failed, begun = (tree.get(key) for key in ("seconds", "failed", "begun"))
    return Note(
        float(seconds) if isinstance(seconds, int | float) and 0 <= seconds < 1e12 else 0.0,
        failed if isinstance(failed, str) else "",
        float(begun) if isinstance(begun, int | float) else None,
    )


def is_bench(folder: str | Path) -> bool:
    """Whether a folder is that of a suite."""
    return (Path(folder) / CELLS).is_file()


def read_bench(folder: str | Path, runs: dict[Path, RunFiles] | None = None) -> BenchFiles:
    """The files of a suite, read.

    Args:
        folder: the suite's.
        runs: finished runs that are read already, by their folders; what is read is added.

    Raises:
        AttarError: the folder is not that of a suite, or its list of cells is damaged.
    """
    folder = Path(folder)
    file = folder / CELLS
    tree = read_json(file, REMEDY)
    try:
        cells = [
            BenchCell(str(one["row"]), str(one["column"]), int(one["seed"]), _inside(folder, str(one["folder"])))
            for one in tree["cells"]
        ]
        known = {} if runs is None else runs
        found = BenchFiles(folder, cells, str(tree["control"]), bool(tree["literature"]), known)
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(file, f"it is no list of cells ({error})", REMEDY) from None
    if not cells or found.control not in found.rows:
        raise damaged(file, "it has no cells of its control", REMEDY)
    found.read()
    return found


def _inside(folder: Path, place: str) -> Path:
    """A place below a folder."""
    if Path(place).is_absolute() or ".." in Path(place).parts:
        raise ValueError(f"{place} lies outside")
    return folder / place
