"""What a job came to: the table of teacher, student alone and student distilled, and the gap between the last two."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attar.measure import Gap, paired_gap, summarise
from attar.recipe import Recipe
from attar.report.tables import Table


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

    def rows(self) -> dict[str, list[Any]]:
        """Each network's results over the seeds, by the name a reader knows it by."""
        names = [part.strip() for part in self.recipe.teacher.name.split(",") if part.strip()]
        # Teachers of one architecture are told apart by number.
        titles = [f"{name} (teacher{f' {n}' if names.count(name) > 1 else ''})" for n, name in enumerate(names, 1)]
        rows = {title: [result] for title, result in zip(titles, self.teachers, strict=True)}
        labels = {"alone": f"{self.recipe.student.name} alone", "student": f"{self.recipe.student.name} {self._verb}"}
        for key in self.runs[0]:
            rows[labels.get(key, key)] = [run[key] for run in self.runs]
        return rows

    @property
    def _verb(self) -> str:
        return "trained" if self.recipe.method.name == "supervised" else f"with {self.recipe.method.name}"

    def accuracy_table(self) -> Table:
        """Scores on the test set, in per cent where that is usual; mean and standard deviation over the seeds."""
        count = self.teachers[0].scores.count if self.teachers else self.runs[0]["student"].scores.count
        seeds = f", mean ± std of {len(self.runs)} seeds" if len(self.runs) > 1 else ""
        body = []
        for label, results in self.rows().items():
            scores = [result.scores for result in results]
            agreement = [100 * s.agreement for s in scores if s.agreement is not None]
            body.append(
                [
                    label,
                    spread([100 * s.top1 for s in scores], 2),
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
        for label, results in self.rows().items():
            cost = results[0].cost
            body.append(
                [
                    label,
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

    def sentence(self) -> str:
        """The headline: how much smaller, and what distillation gained with what certainty."""
        parts = []
        if self.teachers:
            ratio = self.teachers[0].cost.parameters / self.runs[0]["student"].cost.parameters
            parts.append(f"The student is {ratio:.1f} times smaller than its teacher.")
        if (gap := self.gap) is not None:
            seeds = (
                "1 seed, so no interval"
                if gap.half_width is None
                else (
                    f"95 % interval {gap.mean - gap.half_width:+.2f} to {gap.mean + gap.half_width:+.2f}, "
                    f"paired over {len(self.runs)} seeds, p = {gap.p:.3f}"
                )
            )
            parts.append(f"Distilled - alone: {gap.mean:+.2f} points ({seeds}).")
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
