"""Several runs side by side: one table, and their differences where seeds coincide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attar.errors import AttarError
from attar.metrics import Gap, Scoring, paired_gap
from attar.recipe import data_title, titled
from attar.report import html
from attar.report.bench_files import by_seed, is_bench, read_bench
from attar.report.run_files import RunFiles, read_run
from attar.report.summary import Network, average, bounds, values_of
from attar.report.tables import Table, p_text

# Columns of the table before the further measures, and how many of those a terminal has room for.
FIXED, SHORT = 10, 3


@dataclass(frozen=True)
class Comparison:
    """Runs that were measured on the same test set, as `attar.compare` returns them.

    Attributes:
        runs: in the order they were named.
        names: what each is called: the shortest end of its folder's path that is unique.
        report: the HTML page; the table lies beside it as .md and .csv.
    """

    runs: tuple[RunFiles, ...]
    names: tuple[str, ...]
    report: Path

    @property
    def scoring(self) -> Scoring:
        """The measures of the task."""
        return self.runs[0].summary.scoring

    def students(self) -> list[Network]:
        """Each run's distilled student, under the run's name."""
        return [
            Network(
                "student",
                name,
                [one["student"] for one in run.summary.runs],
                run.summary.measure,
                len(run.summary.failed),
            )
            for name, run in zip(self.names, self.runs, strict=True)
        ]

    def table(self) -> Table:
        """A line a run: what it was, and what came of it."""
        rows, students, scoring = [], self.students(), self.scoring
        others = scoring.columns(result.scores for student in students for result in student.results)[1:]
        for run, student in zip(self.runs, students, strict=True):
            scores, cost = [result.scores for result in student.results], student.results[0].cost
            gap = run.summary.gap
            rows.append(
                [
                    student.label,
                    run.recipe.method.name,
                    titled(run.recipe.teacher.name),
                    titled(run.recipe.student.name),
                    str(len(student.results)),
                    student.entry,
                    student.between,
                    "" if gap is None else f"{gap.mean:+.{scoring.primary.digits}f}",
                    f"{cost.parameters:,}",
                    "-" if cost.latency_ms is None else f"{cost.latency_ms:.2f}",
                    *(average(values_of(one, scores), one.digits) for one in others),
                ]
            )
        columns = ["run", "method", "teacher", "student", "n", scoring.primary.title, "95 % interval", "over alone"]
        columns += ["params", "ms", *(one.title for one in others)]
        first = self.runs[0]
        count = first.summary.runs[0]["student"].scores["count"]
        return Table(f"{data_title(first.recipe.data)} ({count:,} test {scoring.entries})", columns, rows, texts=4)

    def hints(self) -> list[str]:
        """Lines about what a reader should not overlook: the hints of each run, and runs in different precisions."""
        named = list(zip(self.names, self.runs, strict=True))
        found = [f"{name}: {hint}" for name, run in named for hint in run.summary.hints()]
        precisions = {name: (run.environment.get("runtime") or {}).get("precision") for name, run in named}
        if len({*precisions.values()} - {None}) > 1:
            listed = ", ".join(f"{name} {precision}" for name, precision in precisions.items() if precision)
            found.append(f"The runs computed in different precisions: {listed}.")
        return found

    def _repr_html_(self) -> str:
        tables = [table for table in (self.table(), self.gap_table()) if table.rows]
        return "".join(map(html.table, tables)) + html.notes(self.hints())

    def short_table(self) -> Table:
        """The columns that a terminal has room for; the files have all."""
        full = self.table()
        left_out = ("method", "teacher", "student", "95 % interval", *full.columns[FIXED : len(full.columns) - SHORT])
        kept = [n for n, name in enumerate(full.columns) if name not in left_out]
        rows = [[row[n] for n in kept] for row in full.rows]
        return Table(full.title, [full.columns[n] for n in kept], rows)

    def gaps(self) -> list[tuple[str, list[int], Gap]]:
        """Every other run minus the first in the primary measure: its name, the seeds of both, and the difference."""
        base, found = by_seed(self.runs[0]), []
        for name, run in zip(self.names[1:], self.runs[1:], strict=True):
            own = by_seed(run)
            if shared := [seed for seed in base if seed in own]:
                gap = paired_gap([own[seed] for seed in shared], [base[seed] for seed in shared])
                found.append((name, shared, gap))
        return found

    def gap_table(self) -> Table:
        """The same as a table; without rows where no seeds coincide."""
        digits = self.scoring.primary.digits
        rows = [
            [
                name,
                f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}",
                f"{gap.mean:+.{digits}f}" if math.isfinite(gap.mean) else "",
                "" if gap.half_width is None else bounds(gap, digits).removeprefix("95 % interval "),
                "" if gap.p is None else p_text(gap.p),
            ]
            for name, seeds, gap in self.gaps()
        ]
        columns = ["run", "seeds of both", f"{self.scoring.primary.points} over {self.names[0]}", "95 % interval", "p"]
        return Table(f"Differences from {self.names[0]}, paired by seed", columns, rows, texts=2)

    def best(self) -> Network:
        """The student with the best mean; a score that is not finite is the worst."""
        higher = self.scoring.primary.higher

        def rank(student: Network) -> float:
            mean = student.mean * (1 if higher else -1)
            return mean if math.isfinite(mean) else -math.inf

        return max(self.students(), key=rank)

    def markdown(self) -> str:
        """Both tables."""
        parts = [self.table()] + ([self.gap_table()] if self.gaps() else [])
        return "\n\n".join(f"## {part.title}\n\n{part.markdown()}" for part in parts) + "\n"


def read_comparison(folders: Sequence[str | Path], out: str | Path) -> Comparison:
    """Read the runs and check that they can be compared. Nothing is written.

    A folder of `attar bench` stands for the entries of its table, each with all its seeds, the control's first.

    Raises:
        AttarError: fewer than two runs, a folder without a finished run, or different test sets.
    """
    report = Path(out)
    if report.suffix != ".html":
        raise AttarError(f"out={out} must end in .html; the .md and .csv get the same name")
    runs = tuple(run for folder in folders for run in _runs_of(folder))
    if len(runs) < 2:
        count = f"{len(runs)} run{'s' if len(runs) != 1 else ''} given"
        raise AttarError(f"{count}; a comparison needs two or more folders of finished runs, or one of a suite")
    names = _names([run.folder for run in runs])
    for run in runs[1:]:
        if problem := _difference(runs[0], run):
            raise AttarError(
                f"{runs[0].folder} and {run.folder} have different test sets: {problem}; compare runs on one test set"
            )
    return Comparison(runs, names, report)


def _runs_of(folder: str | Path) -> list[RunFiles]:
    """The run in a folder, or those of a suite, pooled over their seeds."""
    return read_bench(folder).pooled_runs() if is_bench(folder) else [read_run(folder)]


def _difference(one: RunFiles, other: RunFiles) -> str:
    """What shows that two runs were not tested on the same images; nothing where all that is kept is alike."""
    counts = [run.summary.runs[0]["student"].scores["count"] for run in (one, other)]
    scorings = [run.summary.scoring for run in (one, other)]
    names = [data_title(run.recipe.data) for run in (one, other)]
    if names[0] != names[1]:
        return f"data {names[0]!r} and {names[1]!r}"
    if scorings[0].primary != scorings[1].primary:
        return "they are scored by {} and by {}".format(*(scoring.primary.label for scoring in scorings))
    if one.classes != other.classes:
        pairs = zip(one.classes, other.classes, strict=False)
        where = next(
            (f"{a!r} and {b!r}" for a, b in pairs if a != b), f"{len(one.classes)} and {len(other.classes)} of them"
        )
        return f"classes {where}"
    if counts[0] != counts[1]:
        return f"{counts[0]:,} and {counts[1]:,} {scorings[0].entries}"
    labels = [found[0].labels for run in (one, other) if (found := run.predictions("student"))]
    if len(labels) == 2 and not np.array_equal(labels[0], labels[1]):
        return "the labels of their images differ"
    return ""


def _names(folders: Sequence[Path]) -> tuple[str, ...]:
    """The shortest ends of the paths that are all different.

    >>> _names([Path("a/kd/seed0"), Path("a/dkd/seed0")])
    ('kd/seed0', 'dkd/seed0')
    """
    parts = [folder.resolve().parts for folder in folders]
    longest = max(map(len, parts))
    for depth in range(1, longest + 1):
        names = tuple("/".join(part[-depth:]) for part in parts)
        if len(set(names)) == len(names):
            return names
    raise AttarError(f"{folders[0]} is given twice; name every run once")
