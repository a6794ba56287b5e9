"""What a job came to: the table of teacher, student alone and student distilled, and the gap between the last two."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from attar.metrics import Gap, Measure, Scoring, interval, paired_gap, summarise
from attar.recipe import Recipe, listed, titled
from attar.report import html
from attar.report.latency import latency_of, milliseconds, speed, times, verdict
from attar.report.tables import Table, p_phrase

# Hits of a network that gives one class to nearly everything: at least so many in that class, at most in the others.
MOST_OF_ONE, MOST_OF_OTHERS = 0.9, 0.02


@dataclass(frozen=True)
class Network:
    """One row of the tables.

    Attributes:
        key: "teacher", "teacher2", "alone", "student", "peer1", ...
        label: its name in tables.
        results: one a seed; a teacher has one.
        measure: the primary one of the task.
        failed: how many seeds have no result.
    """

    key: str
    label: str
    results: list[Any]
    measure: Measure
    failed: int = 0

    @property
    def entry(self) -> str:
        """The primary measure in a table: mean and deviation, and how many seeds they are of where some failed."""
        count = len(self.results)
        return counted(spread(self.values, self.measure.digits), count, count + self.failed, self.failed)

    @property
    def values(self) -> list[float]:
        """The primary measure as people read it (per cent of a share), one a seed."""
        return values_of(self.measure, [result.scores for result in self.results])

    @property
    def mean(self) -> float:
        """The mean of the values; infinite or NaN where one is."""
        return summarise(self.values).mean

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The 95 % interval of the primary measure: over the seeds; of one run's share, what its samples leave open.

        None: one run of a measure that is no share leaves nothing to compute it from, and neither does a mean that is
        infinite or NaN.
        """
        mean, count, measure = summarise(self.values), self.results[0].scores["count"], self.measure
        if mean.half_width is not None:
            low, high = mean.mean - mean.half_width, mean.mean + mean.half_width
            return (max(low, 0.0), min(high, measure.scale)) if measure.share else (low, high)
        if not measure.share or not isfinite(mean.mean):
            return None
        low, high = interval(round(mean.mean / measure.scale * count), count)
        return measure.scale * low, measure.scale * high

    @property
    def range(self) -> tuple[float, float]:
        """The ends of the interval; the mean twice where there is none."""
        return self.bounds or (self.mean, self.mean)

    @property
    def collapse(self) -> str:
        """A line where a seed's network gives one class to nearly every sample; else empty."""
        for result in self.results:
            if line := one_class(result.scores.get("per_class") or ()):
                return line
        return ""

    @property
    def between(self) -> str:
        """The interval in words; nothing where there is none."""
        return "" if self.bounds is None else " to ".join(f"{end:.{self.measure.digits}f}" for end in self.bounds)


@dataclass(frozen=True)
class Summary:
    """The results of a job.

    Attributes:
        recipe: what was done.
        teachers: each teacher's result.
        runs: for each seed, the results by name ("alone", "student", "peer1", ...).
        folder: where everything is.
        scoring: the measures of the task.
        failed: the seeds that failed, with the reason; runs are those of the others.
        of_seeds: the seeds of the runs, where they are not those of the recipe.
    """

    recipe: Recipe
    teachers: list[Any]
    runs: list[dict[str, Any]]
    folder: Path
    scoring: Scoring
    failed: dict[int, str] = field(default_factory=dict)
    of_seeds: tuple[int, ...] = ()

    @property
    def seeds(self) -> list[int]:
        """Those of the runs."""
        if self.of_seeds:
            return list(self.of_seeds)
        return [
            seed for seed in range(self.recipe.seed, self.recipe.seed + self.recipe.seeds) if seed not in self.failed
        ]

    @property
    def measure(self) -> Measure:
        """The primary measure."""
        return self.scoring.primary

    def networks(self) -> list[Network]:
        """The teachers, the student alone, the student distilled, and whatever else was deployed."""
        names = [titled(name) for name in listed(self.recipe.teacher.name) if name]
        student = titled(self.recipe.student.name)
        # Teachers of one architecture get numbers.
        titles = [f"{name} (teacher{f' {n}' if names.count(name) > 1 else ''})" for n, name in enumerate(names, 1)]
        keys = ["teacher" if n == 1 else f"teacher{n}" for n in range(1, len(names) + 1)]
        results = [[one] for one in self.teachers]
        found = [Network(*row, self.measure) for row in zip(keys, titles, results, strict=True)]
        labels = {"alone": f"{student} alone", "student": f"{student} {self._verb}"}
        return found + [
            Network(key, labels.get(key, key), [run[key] for run in self.runs], self.measure, len(self.failed))
            for key in self.runs[0]
        ]

    def rows(self) -> dict[str, list[Any]]:
        """Each network's results over the seeds, by its label."""
        return {network.label: network.results for network in self.networks()}

    @property
    def _verb(self) -> str:
        return "trained" if self.recipe.method.name == "supervised" else f"with {self.recipe.method.name}"

    def score_table(self) -> Table:
        """Scores on the test set: the primary measure with its deviation over the seeds, the means of the others."""
        networks = self.networks()
        count = networks[0].results[0].scores["count"]
        seeds = f", mean ± std of {len(self.runs)} seeds" if len(self.runs) > 1 else ""
        measures = self.scoring.columns(result.scores for network in networks for result in network.results)
        body = []
        for network in networks:
            scores = [result.scores for result in network.results]
            others = [average(values_of(one, scores), one.digits) for one in measures[1:]]
            body.append([network.label, network.entry, *others])
        title = f"Test set ({count:,} {self.scoring.entries}{seeds})"
        return Table(title, ["", *(one.title for one in measures)], body)

    def cost_table(self) -> Table:
        """What each network costs to keep and to run."""
        body = []
        for network in self.networks():
            cost = network.results[0].cost
            body.append(
                [
                    network.label,
                    f"{cost.parameters:,}" if cost.parameters else "-",  # an exported file has no count
                    "-" if cost.macs is None or not cost.parameters else f"{cost.macs / 1e6:.2f} M",
                    milliseconds(latency_of(cost)),
                    "-" if cost.bytes is None else size(cost.bytes),
                ]
            )
        return Table(
            "Cost (batch 1; ms: median, distance of the quartiles)",
            ["", "parameters", "MACs", f"ms/{self.scoring.sample}", "file"],
            body,
        )

    @property
    def gap(self) -> Gap | None:
        """Distilled minus alone in the primary measure, paired by seed."""
        if "alone" not in self.runs[0]:
            return None
        return paired_gap(self._values("student"), self._values("alone"))

    @property
    def teacher_gap(self) -> Gap | None:
        """Distilled minus the first teacher in the primary measure."""
        if not self.teachers:
            return None
        student = self._values("student")
        return paired_gap(student, values_of(self.measure, [self.teachers[0].scores]) * len(student))

    def _values(self, name: str) -> list[float]:
        return values_of(self.measure, [run[name].scores for run in self.runs])

    def sentence(self) -> str:
        """The headline: how much smaller and faster, and what distillation gained with what certainty."""
        parts, points, digits = [], self.measure.points, self.measure.digits
        if self.teachers:
            parts.append(self._beside_teacher())
        if (gap := self.gap) is not None:
            seeds = gap.untested or f"{bounds(gap, digits)}, paired over {gap.count} seeds"
            certainty = "" if gap.p is None else f", {p_phrase(gap.p)}"
            parts.append(f"Distilled - alone: {gap.mean:+.{digits}f} {points} ({seeds}{certainty}).")
        if (gap := self.teacher_gap) is not None:
            certainty = "" if gap.half_width is None else f" ({bounds(gap, digits)})"
            parts.append(f"Distilled - teacher: {gap.mean:+.{digits}f} {points}{certainty}.")
        return " ".join(filter(None, parts))

    def _beside_teacher(self) -> str:
        """How much smaller and faster the student is; what could not be measured is left out."""
        teacher, student = self.teachers[0].cost, self.runs[0]["student"].cost
        both = latency_of(teacher), latency_of(student)
        faster, parts = speed(*both), []
        if teacher.parameters:  # an exported file has no count
            smaller = times(teacher.parameters, student.parameters, "smaller than", "larger than")
            smaller = "as large as" if smaller.startswith("1.0 ") else smaller
            parts.append(f"The student is {smaller} its teacher{' and ' if faster else ''}{faster}.")
        elif faster:
            parts.append(f"The student is {faster} {'as' if faster == 'as fast' else 'than'} its teacher.")
        if verdict(*both) == "unsteady":
            parts.append("Latencies varied too much for a ratio.")
        return " ".join(parts)

    @property
    def worse(self) -> bool:
        """Whether the student that was distilled scores worse than the student alone."""
        gap = self.gap
        return gap is not None and (gap.mean < 0 if self.measure.higher else gap.mean > 0)

    def hints(self) -> list[str]:
        """A line about each thing that a reader should not overlook."""
        found = [f"Seed {seed} failed: {reason}" for seed, reason in self.failed.items()]
        found += [f"{network.label}: {line}" for network in self.networks() if (line := network.collapse)]
        if self.worse and (gap := self.gap):
            unsure = gap.half_width is not None and abs(gap.mean) <= gap.half_width
            outcome = "did not help" if unsure else "made the student worse"
            found.append(
                f"Distilling {outcome}: train longer (epochs=), try another temperature (method.temperature=) or "
                "another method (attar methods)."
            )
        return found

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"

    @property
    def student(self) -> Path:
        """The weights of the deployed student, the first seed's where there are several."""
        folder = self.folder if self.recipe.seeds == 1 else self.folder / f"seed{self.seeds[0]}"
        return folder / "student.safetensors"

    def _repr_html_(self) -> str:
        tables = html.table(self.score_table()) + html.table(self.cost_table())
        return tables + html.notes([line for line in (self.sentence(), *self.hints()) if line])

    def to_json(self) -> dict[str, Any]:
        """Everything above as plain data."""
        return {
            "sentence": self.sentence(),
            "scoring": self.scoring.to_json(),
            **({"failed": {str(seed): reason for seed, reason in self.failed.items()}} if self.failed else {}),
            "teachers": [result.to_json() for result in self.teachers],
            "runs": [{key: result.to_json() for key, result in run.items()} for run in self.runs],
        }


def bounds(gap: Gap, digits: int = 2) -> str:
    """The interval of a gap as a sentence.

    >>> bounds(paired_gap([1.0, 3.0], [0.0, 1.0]))
    '95 % interval -4.85 to +7.85'
    """
    assert gap.half_width is not None
    low, high = gap.mean - gap.half_width, gap.mean + gap.half_width
    return f"95 % interval {low:+.{digits}f} to {high:+.{digits}f}"


def values_of(measure: Measure, scores: Iterable[Mapping[str, Any]]) -> list[float]:
    """A measure as people read it, of those scores that have it.

    >>> values_of(Measure("top1", "top-1 %", 100), [{"top1": 0.5}, {}])
    [50.0]
    """
    found = (one.get(measure.name) for one in scores)
    return [measure.scale * value for value in found if value is not None]


def spread(values: list[float], digits: int) -> str:
    """A value, or the mean and standard deviation of several.

    >>> spread([1.0], 1), spread([1.0, 3.0], 1)
    ('1.0', '2.0 ± 1.4')
    """
    mean = summarise(values)
    return f"{mean.mean:.{digits}f}" + (f" ± {mean.std:.{digits}f}" if mean.std is not None else "")


def counted(text: str, count: int, planned: int, failed: int) -> str:
    """An entry of a table with how many runs it is of, where some failed or are not done yet.

    >>> counted("70.12", 3, 3, 0), counted("70.12", 2, 3, 1), counted("", 0, 3, 3), counted("70.12", 1, 3, 0)
    ('70.12', '70.12 (n=2, 1 failed)', 'failed', '70.12 (n=1)')
    """
    if not count:
        return "failed" if failed else ""
    more = ", ".join([f"n={count}"] * (count < planned) + [f"{failed} failed"] * bool(failed))
    return f"{text} ({more})" if more else text


def one_class(per_class: Sequence[float | None]) -> str:
    """A line where the hits in each class show that a network gives one class to nearly everything; else empty.

    One class is right nearly always (0.9), the others hardly ever (0.02 on average, and less than half of what guessing
    gives); or none is right at all, because the one class is not among the samples.

    >>> one_class([0.0, 1.0, 0.0]), one_class([0.3, 0.9, 0.1]), one_class([0.0, 0.0])
    ('gives class 1 (of 0 to 2) to nearly everything', '', 'gets nothing right')
    """
    hits = [(hit, number) for number, hit in enumerate(per_class) if hit is not None]
    if len(hits) < 2:
        return ""
    (highest, number), others = max(hits), sum(hit for hit, _ in hits)
    if not others:
        return "gets nothing right"
    most = min(MOST_OF_OTHERS, 0.5 / len(hits))
    collapsed = highest >= MOST_OF_ONE and (others - highest) / (len(hits) - 1) <= most
    return f"gives class {number} (of 0 to {len(per_class) - 1}) to nearly everything" if collapsed else ""


def average(values: list[float], digits: int) -> str:
    """The mean alone, or nothing where nothing was measured."""
    return f"{summarise(values).mean:.{digits}f}" if values else ""


def size(count: int) -> str:
    """Bytes as people write them.

    >>> size(1_161_242)
    '1.16 MB'
    """
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
