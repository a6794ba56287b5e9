"""The tables of a suite: each pair's methods with intervals and differences, all pairs side by side, and every run."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, isfinite
from statistics import fmean
from typing import Any

from attar.metrics import Gap, Measure, Ranking, holm, paired_gap, ranking, summarise
from attar.recipe import data_title
from attar.report.bench_files import BenchCell, BenchFiles, by_seed, read_note
from attar.report.published import published_score
from attar.report.run_files import RunFiles
from attar.report.summary import Network, average, bounds, counted, spread, values_of
from attar.report.tables import Table, one_line, p_phrase, p_text

LEVEL = "95 % interval"


@dataclass(frozen=True)
class Row:
    """A line of a pair's table.

    Attributes:
        label: what it is called.
        network: its results, one a seed.
        kind: "teacher", "method", or "other" for what a method deploys beside the student.
        of: the row of the suite that it comes from; empty for a teacher.
    """

    label: str
    network: Network
    kind: str
    of: str = ""


@dataclass
class BenchTables:
    """The tables of a suite as it is now.

    Attributes:
        files: the suite's.
    """

    files: BenchFiles

    @cached_property
    def _runs(self) -> dict[str, dict[str, RunFiles]]:
        found = {
            column: [(row, self.files.run_of(row, column)) for row in self.files.rows] for column in self.files.columns
        }
        return {column: {row: run for row, run in entries if run is not None} for column, entries in found.items()}

    def runs(self, column: str) -> dict[str, RunFiles]:
        """The pooled runs of a pair, by row; those that have none are left out."""
        return self._runs[column]

    def by_seed(self, row: str, column: str) -> dict[int, float]:
        """The primary measure of the students of an entry, by seed."""
        run = self._runs[column].get(row)
        return {} if run is None else by_seed(run)

    def measure(self, column: str) -> Measure | None:
        """The primary measure of a pair; None before its first run is done."""
        return next((run.summary.measure for run in self.runs(column).values()), None)

    def lines(self, column: str) -> list[Row]:
        """The lines of a pair's table: its teachers, each method's student, and what else a method deployed."""
        found = [Row(one.label, one, "teacher") for one in self.files.teachers(column)]
        for row, run in self.runs(column).items():
            for network in run.summary.networks():
                if network.key == "student":
                    found.append(Row(row, network, "method", row))
                elif not network.key.startswith("teacher"):
                    label = "student alone" if network.key == "alone" else network.key
                    found.append(Row(f"{row}: {label}", network, "other", row))
        return found

    def gap(self, row: str, column: str) -> Gap | None:
        """A row minus the control, paired over the seeds that both have; None where that is no number."""
        if row == self.files.control:
            return None
        own, base = (self.by_seed(one, column) for one in (row, self.files.control))
        shared = [seed for seed in base if seed in own]
        found = paired_gap([own[seed] for seed in shared], [base[seed] for seed in shared]) if shared else None
        return found if found and isfinite(found.mean) else None

    @cached_property
    def gaps(self) -> dict[tuple[str, str], Gap]:
        """The difference of each row and column from the control."""
        places = [(row, column) for column in self.files.columns for row in self.files.rows]
        return {place: gap for place in places if (gap := self.gap(*place)) is not None}

    @property
    def untested(self) -> bool:
        """Whether a difference is the same in all of several seeds."""
        return any(gap.count > 1 and gap.untested for gap in self.gaps.values())

    @cached_property
    def corrected(self) -> dict[tuple[str, str], float]:
        """Holm's p-value of each row and column, over all comparisons of the suite."""
        found = {place: gap.p for place, gap in self.gaps.items() if gap.p is not None}
        return dict(zip(found, holm(list(found.values())), strict=True))

    def pair_table(self, column: str) -> Table:
        """Everything about a pair: scores with intervals, differences from the control, other measures and costs."""
        lines, measure = self.lines(column), self.measure(column)
        if measure is None:
            return Table(
                self.title(column),
                ["method", "runs"],
                [[row, self._state(row, column)] for row in self._absent(column)],
            )
        scoring = next(iter(self.runs(column).values())).summary.scoring
        others = scoring.columns(result.scores for line in lines for result in line.network.results)[1:]
        over = f"over {self.files.control}"
        columns = ["method", "n", measure.title, "deviation", LEVEL, over, "its interval", "p", "p (Holm)"]
        columns += [*(one.title for one in others), "parameters", "minutes"]
        rows = [[line.label, *self._scores(line, column), *self._others(line, column, others)] for line in lines]
        if self.files.literature:
            columns += ["published", "over it"]
            for line, entries in zip(lines, rows, strict=True):
                entries += self._published(line, column)
        width = len(columns)
        rows += [[row, self._state(row, column), *[""] * (width - 2)] for row in self._absent(column)]
        return Table(self.title(column), columns, rows).compact()

    def title(self, column: str) -> str:
        """The pair, the measure, the data and the number of samples of its test set."""
        run = next(iter(self.runs(column).values()), None)
        if run is None:
            return column
        count, scoring = run.summary.runs[0]["student"].scores["count"], run.summary.scoring
        return f"{column}: {scoring.primary.title}, {data_title(run.recipe.data)} ({count:,} test {scoring.samples})"

    def _absent(self, column: str) -> list[str]:
        """The rows without any finished run."""
        return [row for row in self.files.rows if row not in self.runs(column)]

    def _state(self, row: str, column: str) -> str:
        """How many runs of an entry are done, and how many failed."""
        cells = self.files.of(row, column)
        done = sum(cell.folder in self.files.runs for cell in cells)
        failed = sum(cell in self.files.failed for cell in cells)
        if done == len(cells):
            return str(done)
        return ", ".join([f"{done} of {len(cells)}", *([f"{failed} failed"] if failed else [])])

    def _scores(self, line: Row, column: str) -> list[str]:
        """n, the mean, its deviation and interval, and the difference from the control."""
        network, digits = line.network, line.network.measure.digits
        found = summarise(network.values)
        count = self._state(line.of, column) if line.kind == "method" else str(found.count)
        entries = [
            count,
            f"{found.mean:.{digits}f}",
            "" if found.std is None else f"{found.std:.{digits}f}",
            network.between,
        ]
        gap = self.gap(line.of, column) if line.kind == "method" else None
        if gap is None:
            return [*entries, *[""] * 4]
        p = self.corrected.get((line.of, column))
        return [
            *entries,
            f"{gap.mean:+.{digits}f}" + (f" (n={gap.count})" if gap.count < found.count else ""),
            "" if gap.half_width is None else bounds(gap, digits).removeprefix(f"{LEVEL} "),
            "" if gap.p is None else p_text(gap.p),
            "" if p is None else p_text(p),
        ]

    def _others(self, line: Row, column: str, measures: Sequence[Measure]) -> list[str]:
        """The other measures, and what the network and its training cost."""
        results = line.network.results
        found = [average(values_of(one, [result.scores for result in results]), one.digits) for one in measures]
        seconds = self.files.seconds(line.of, column) if line.kind == "method" else []
        minutes = f"{fmean(seconds) / 60:.1f}" if seconds else ""
        return [*found, f"{results[0].cost.parameters:,}", minutes]

    def _published(self, line: Row, column: str) -> list[str]:
        """The published number, and how far the mean is above it."""
        found = self.published(line, column)
        if found is None:
            return ["", ""]
        return [f"{found[0]:.2f}", f"{line.network.mean - found[0]:+.2f}"]

    def published(self, line: Row, column: str) -> tuple[float, str] | None:
        """What was published about a line, and where."""
        # The last network of a chain has a distilled teacher, papers' pairs a trained one.
        if line.kind == "other" or column.count(" -> ") > 1:
            return None
        run = next(iter(self.runs(column).values()))
        recipe = run.recipe if line.kind == "teacher" else self.runs(column)[line.of].recipe
        # What is published is top-1 of these very networks: a kNN score or a wider student is something else.
        if line.network.measure.name != "top1" or recipe.student.options or recipe.teacher.options:
            return None
        method = "teacher" if line.kind == "teacher" else self.runs(column)[line.of].recipe.method.name
        return published_score(method, recipe.teacher.name, recipe.student.name, recipe.data.name)

    def overview(self) -> Table:
        """The primary measure, methods down and pairs across, mean and deviation over the seeds; and average ranks."""
        rows, columns = self.files.rows, self.files.columns
        ranks = self.ranks()
        body = [[row, *(self.entry(row, column) for column in columns)] for row in rows]
        heads = ["method", *columns]
        if ranks:
            by_row = dict(zip(ranks[0], ranks[1].ranks, strict=True))
            heads.append("average rank")
            for line, row in zip(body, rows, strict=True):
                line.append(f"{by_row[row]:.2f}" if row in by_row else "")
        seeds = len(self.files.seeds)
        measures = list(dict.fromkeys(found.title for column in columns if (found := self.measure(column))))
        title = f"Test {', '.join(measures) or 'scores'}, {seeds} seed{'s' if seeds > 1 else ''}"
        return Table(title, heads, body)

    def entry(self, row: str, column: str) -> str:
        """Mean and deviation over the seeds, and how many they are of where some are missing."""
        run, cells = self.runs(column).get(row), self.files.of(row, column)
        failed = sum(cell in self.files.failed for cell in cells)
        if run is None:
            return counted("", 0, len(cells), failed)
        values = list(self.by_seed(row, column).values())
        return counted(spread(values, run.summary.measure.digits), len(values), len(cells), failed)

    def ranks(self) -> tuple[list[str], Ranking] | None:
        """The rows that every pair has a result of, with their average ranks; None for fewer than two of either.

        On each pair the means are over the seeds that all these rows have, because seeds are not equally hard; None
        where there is no such seed. A mean that is NaN ranks last.
        """
        columns = self.files.columns
        rows = [row for row in self.files.rows if all(self.by_seed(row, column) for column in columns)]
        if len(columns) < 2 or len(rows) < 2:
            return None
        scores = []
        for column in columns:
            measure, found = self.measure(column), [self.by_seed(row, column) for row in rows]
            sign = 1 if measure is None or measure.higher else -1
            shared = [seed for seed in found[0] if all(seed in one for one in found)]
            if not shared:
                return None
            means = [sign * summarise([one[seed] for seed in shared]).mean for one in found]
            scores.append([-inf if mean != mean else mean for mean in means])
        return rows, ranking(scores)

    def tables(self) -> list[Table]:
        """All that a file shows: all pairs where there are several, then each pair."""
        columns = self.files.columns
        return [*([self.overview()] if len(columns) > 1 else []), *map(self.pair_table, columns)]

    def short_tables(self) -> list[Table]:
        """The columns that a terminal has room for; the files have all."""
        columns = self.files.columns
        if len(columns) > 1:
            return [self.overview()]
        found = []
        for column in columns:
            full = self.pair_table(column)
            kept = [n for n, name in enumerate(full.columns) if name in self._short]
            found.append(
                Table(full.title, [full.columns[n] for n in kept], [[row[n] for n in kept] for row in full.rows])
            )
        return found

    @property
    def _short(self) -> set[str]:
        titles = {measure.title for column in self.files.columns if (measure := self.measure(column))}
        return {"method", "runs", "n", "deviation", f"over {self.files.control}", "p (Holm)", "minutes", *titles}

    def notes(self) -> list[str]:
        """What a reader must know about the numbers: failed runs, how differences are tested, ranks, and sources."""
        found = [f"Failed: {cell.title}: {reason}" for cell, reason in self.files.failed.items()]
        waiting = len(self.files.cells) - len(self.files.done) - len(self.files.failed)
        if waiting:
            found.append(f"{waiting} of {len(self.files.cells)} runs are not done yet.")
        if self.corrected:
            count = len(self.corrected)
            found.append(
                f"Differences are paired by seed; p: two-sided paired t test against {self.files.control}; p (Holm): "
                f"corrected for the {count} comparison{'s' if count > 1 else ''} of this suite."
            )
        if self.untested:
            found.append("A difference that is the same in all seeds has no interval and no p: it cannot be tested.")
        if ranks := self.ranks():
            certainty = "" if ranks[1].p is None else f"Friedman's test: {p_phrase(ranks[1].p)}; "
            found.append(
                f"Average ranks over {ranks[1].cases} pairs, 1 the best. {certainty}methods whose ranks differ by less "
                f"than {ranks[1].difference:.2f} are not told apart (Nemenyi, 5 %)."
            )
        return found + self.sources()

    def sources(self) -> list[str]:
        """Where published numbers stand, each source with its methods."""
        if not self.files.literature:
            return []
        by_source: dict[str, list[str]] = {}
        for column in self.files.columns:
            for line in self.lines(column):
                if found := self.published(line, column):
                    name = "teacher" if line.kind == "teacher" else line.of.split()[0]
                    labels = by_source.setdefault(found[1], [])
                    labels += [name] if name not in labels else []
        if not by_source:
            return ["Nothing is published about these pairs and data."]
        listed = "; ".join(f"{', '.join(names)}: {source}" for source, names in by_source.items())
        epochs = "the last or the best of 240 to 960 epochs"
        return [f"Published: CIFAR-100 top-1, {epochs}, each with its paper's own settings. {listed}."]

    def markdown(self) -> str:
        """All tables, with the notes below."""
        parts = [f"## {one_line(one.title)}\n\n{one.markdown()}" for one in self.tables()]
        notes = [f"- {one_line(line)}" for line in self.notes()]
        return "\n\n".join([*parts, *(["\n".join(notes)] if notes else [])]) + "\n"

    def latex(self) -> str:
        """All tables for a paper (booktabs), their titles and the notes as comments."""
        parts = [f"% {one_line(one.title)}\n{one.latex()}" for one in self.tables()]
        return "\n\n".join([*parts, *(f"% {one_line(line)}" for line in self.notes())]) + "\n"

    def csv(self) -> str:
        """One line a run, with every score as it was measured."""
        rows = [self._record(cell) for cell in self.files.cells]
        heads = list(dict.fromkeys(key for row in rows for key in row))
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([heads, *([row.get(key, "") for key in heads] for row in rows)])
        return text.getvalue()

    def _record(self, cell: BenchCell) -> dict[str, Any]:
        """A run as plain values."""
        note, run = read_note(cell.folder), self.files.runs.get(cell.folder)
        state = "done" if run else "failed" if cell in self.files.failed else "waiting"
        place = cell.folder.relative_to(self.files.folder).as_posix()
        found: dict[str, Any] = {
            "pair": cell.column,
            "row": cell.row,
            "seed": cell.seed,
            "state": state,
            "folder": place,
        }
        if run is None:
            return {**found, "reason": self.files.failed.get(cell, "")}
        recipe, result = run.recipe, run.summary.runs[0]["student"]
        found |= {"reason": "", "method": recipe.method.name, "teacher": recipe.teacher.name}
        found |= {"student": recipe.student.name, "data": recipe.data.name, "epochs": recipe.epochs}
        found |= {key.partition("/")[2]: value for key, value in result.numbers().items()}
        for teacher in run.summary.teachers[:1]:
            found["teacher_" + run.summary.measure.name] = teacher.scores[run.summary.measure.name]
        return {**found, "seconds": round(note.seconds, 1) or ""}
