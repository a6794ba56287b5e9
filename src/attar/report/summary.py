"""What a job came to: the table of teacher, student alone and student distilled, and the gap between the last two."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attar.metrics import Gap, interval, paired_gap, summarise
from attar.recipe import Recipe, listed
from attar.report.tables import Table


@dataclass(frozen=True)
class Network:
    """One row of the tables.

    Attributes:
        key: "teacher", "teacher2", "alone", "student", "peer1", ...
        label: its name in tables.
        results: one a seed; a teacher has one.
    """

    key: str
    label: str
    results: list[Any]

    @property
    def top1(self) -> list[float]:
        """Per cent, one a seed."""
        return [100 * result.scores.top1 for result in self.results]

    @property
    def bounds(self) -> tuple[float, float]:
        """The 95 % interval of top-1 in per cent: over the seeds; of a single run, what its images leave open."""
        mean, count = summarise(self.top1), self.results[0].scores.count
        if mean.half_width is None:
            low, high = interval(round(mean.mean / 100 * count), count)
            return 100 * low, 100 * high
        return max(mean.mean - mean.half_width, 0.0), min(mean.mean + mean.half_width, 100.0)


@dataclass(frozen=True)
class Summary:
    """The results of a job.

    Attributes:
        recipe: what was done.
        teachers: each teacher's result.
        runs: for each seed, the results by name ("alone", "student", "peer1", ...).
        folder: where everything is.
    """

    recipe: Recipe
    teachers: list[Any]
    runs: list[dict[str, Any]]
    folder: Path

    def networks(self) -> list[Network]:
        """The teachers, the student alone, the student distilled, and whatever else was deployed."""
        names = [name for name in listed(self.recipe.teacher.name) if name]
        # Teachers of one architecture get numbers.
        titles = [f"{name} (teacher{f' {n}' if names.count(name) > 1 else ''})" for n, name in enumerate(names, 1)]
        keys = ["teacher" if n == 1 else f"teacher{n}" for n in range(1, len(names) + 1)]
        found = [Network(*row) for row in zip(keys, titles, [[one] for one in self.teachers], strict=True)]
        labels = {"alone": f"{self.recipe.student.name} alone", "student": f"{self.recipe.student.name} {self._verb}"}
        return found + [Network(key, labels.get(key, key), [run[key] for run in self.runs]) for key in self.runs[0]]

    def rows(self) -> dict[str, list[Any]]:
        """Each network's results over the seeds, by its label."""
        return {network.label: network.results for network in self.networks()}

    @property
    def _verb(self) -> str:
        return "trained" if self.recipe.method.name == "supervised" else f"with {self.recipe.method.name}"

    def accuracy_table(self) -> Table:
        """Scores on the test set, in per cent where that is usual; mean and standard deviation over the seeds."""
        count = self.teachers[0].scores.count if self.teachers else self.runs[0]["student"].scores.count
        seeds = f", mean ± std of {len(self.runs)} seeds" if len(self.runs) > 1 else ""
        body = []
        for network in self.networks():
            scores = [result.scores for result in network.results]
            agreement = [100 * s.agreement for s in scores if s.agreement is not None]
            body.append(
                [
                    network.label,
                    spread(network.top1, 2),
                    average([100 * s.top5 for s in scores], 1),
                    average([s.nll for s in scores], 3),
                    average([100 * s.ece for s in scores], 1),
                    average(agreement, 1),
                ]
            )
        return Table(
            f"Test set ({count:,} images{seeds})", ["", "top-1 %", "top-5 %", "NLL", "ECE %", "agrees %"], body
        )

    def cost_table(self) -> Table:
        """What each network costs to keep and to run."""
        body = []
        for network in self.networks():
            cost = network.results[0].cost
            body.append(
                [
                    network.label,
                    f"{cost.parameters:,}",
                    f"{cost.macs / 1e6:.2f} M",
                    f"{cost.latency_ms:.2f}",
                    size(cost.bytes),
                ]
            )
        return Table("Cost (batch 1)", ["", "parameters", "MACs", "ms/image", "file"], body)

    @property
    def gap(self) -> Gap | None:
        """Distilled minus alone in top-1 points, paired by seed."""
        if "alone" not in self.runs[0]:
            return None
        student, alone = ([100 * run[name].scores.top1 for run in self.runs] for name in ("student", "alone"))
        return paired_gap(student, alone)

    @property
    def teacher_gap(self) -> Gap | None:
        """Distilled minus the first teacher in top-1 points."""
        if not self.teachers:
            return None
        student = [100 * run["student"].scores.top1 for run in self.runs]
        return paired_gap(student, [100 * self.teachers[0].scores.top1] * len(student))

    def sentence(self) -> str:
        """The headline: how much smaller and faster, and what distillation gained with what certainty."""
        parts = []
        if self.teachers:
            teacher, student = self.teachers[0].cost, self.runs[0]["student"].cost
            faster = times(teacher.latency_ms, student.latency_ms, "faster", "slower")
            if teacher.parameters:
                smaller = times(teacher.parameters, student.parameters, "smaller", "larger")
                than = "as" if smaller.startswith("as") else "than"
                parts.append(f"The student is {smaller} {than} its teacher and {faster}.")
            else:  # an exported file has no count
                parts.append(f"The student is {faster} {'as' if faster.startswith('as') else 'than'} its teacher.")
        if (gap := self.gap) is not None:
            seeds = (
                "1 seed, so no interval" if gap.half_width is None else f"{bounds(gap)}, paired over {gap.count} seeds"
            )
            certainty = "" if gap.p is None else f", p = {gap.p:.3f}"
            parts.append(f"Distilled - alone: {gap.mean:+.2f} points ({seeds}{certainty}).")
        if (gap := self.teacher_gap) is not None:
            certainty = "" if gap.half_width is None else f" ({bounds(gap)})"
            parts.append(f"Distilled - teacher: {gap.mean:+.2f} points{certainty}.")
        return " ".join(parts)

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"

    @property
    def student(self) -> Path:
        """The weights of the deployed student, the first seed's where there are several."""
        folder = self.folder if len(self.runs) == 1 else self.folder / f"seed{self.recipe.seed}"
        return folder / "student.safetensors"

    def to_json(self) -> dict[str, Any]:
        """Everything above as plain data."""
        return {
            "sentence": self.sentence(),
            "teachers": [result.to_json() for result in self.teachers],
            "runs": [{key: result.to_json() for key, result in run.items()} for run in self.runs],
        }


def times(teacher: float, student: float, less: str, more: str) -> str:
    """How many times less the student needs than its teacher, or how many times more.

    >>> times(31.0, 20.0, "smaller", "larger"), times(1.0, 1.01, "faster", "slower")
    ('1.6 times smaller', 'as fast')
    """
    ratio, word = (teacher / student, less) if teacher >= student else (student / teacher, more)
    if round(ratio, 1) == 1.0:
        return "as " + {"smaller": "large", "faster": "fast"}[less]
    return f"{ratio:.1f} times {word}"


def bounds(gap: Gap) -> str:
    """The interval of a gap as a sentence.

    >>> bounds(paired_gap([1.0, 3.0], [0.0, 1.0]))
    '95 % interval -4.85 to +7.85'
    """
    assert gap.half_width is not None
    return f"95 % interval {gap.mean - gap.half_width:+.2f} to {gap.mean + gap.half_width:+.2f}"


def spread(values: list[float], digits: int) -> str:
    """A value, or the mean and standard deviation of several.

    >>> spread([1.0], 1), spread([1.0, 3.0], 1)
    ('1.0', '2.0 ± 1.4')
    """
    mean = summarise(values)
    return f"{mean.mean:.{digits}f}" + (f" ± {mean.std:.{digits}f}" if mean.std is not None else "")


def average(values: list[float], digits: int) -> str:
    """The mean alone, or nothing where nothing was measured."""
    return f"{summarise(values).mean:.{digits}f}" if values else ""


def size(count: int) -> str:
    """Bytes as people write them.

    >>> size(1_161_242)
    '1.16 MB'
    """
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
