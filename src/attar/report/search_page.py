"""What a search for a student came to: the candidates beside the teacher, and who wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attar.files import write_text
from attar.metrics import Measure
from attar.profiling import Measured
from attar.recipe import titled
from attar.report import html
from attar.report.charts import Dot, scatter
from attar.report.latency import milliseconds
from attar.report.run_page import better_corner, caption
from attar.report.summary import Summary, size
from attar.report.tables import Table

PAGE = "search.html"


@dataclass(frozen=True)
class Tried:
    """One candidate.

    Attributes:
        cost: what it costs, measured before the training.
        value: the primary measure on the validation images after its longest training, as people read it.
        epochs: of that training.
        folder: its run.
    """

    cost: Measured
    value: float
    epochs: int
    folder: Path


@dataclass(frozen=True)
class Found:
    """What `attar.search` found.

    Attributes:
        tried: the candidates, those that were trained longest first, then the best.
        teacher: what the teacher costs.
        teacher_value: its primary measure on the validation images.
        measure: the primary measure of the task.
        winner: the run of the best candidate, trained in full.
        within: how many points below the teacher were allowed on the test set; None: any.
        folder: where everything is.
    """

    tried: tuple[Tried, ...]
    teacher: Measured
    teacher_value: float
    measure: Measure
    winner: Summary
    within: float | None
    folder: Path

    @property
    def report(self) -> Path:
        """The page."""
        return self.folder / PAGE

    @property
    def behind(self) -> float:
        """How far the winner is behind the teacher on the test set, in points; negative where it is ahead."""
        gap = self.winner.teacher_gap
        assert gap is not None
        return -gap.mean if self.measure.higher else gap.mean

    @property
    def holds(self) -> bool:
        """Whether the winner is as near to the teacher as was asked."""
        return self.within is None or self.behind <= self.within

    def best(self, one: Tried) -> bool:
        """Whether no candidate of the same length of training is at least as good, as fast and as small, and better in
        one of these."""

        def key(other: Tried) -> tuple[float, float, float]:
            value = -other.value if self.measure.higher else other.value
            return value, other.cost.latency.median, other.cost.bytes

        others = [key(other) for other in self.tried if other.epochs == one.epochs and other is not one]
        own = key(one)
        return not any(other != own and all(a <= b for a, b in zip(other, own, strict=True)) for other in others)

    def table(self) -> Table:
        """The teacher and the candidates; a star marks those that no other one beats in everything."""
        title = f"Candidates (validation {self.measure.label}; * no other is better in everything)"
        digits = self.measure.digits
        rows = [[self.teacher.name, "", f"{self.teacher_value:.{digits}f}", *_costs(self.teacher)]]
        for one in self.tried:
            name = f"{titled(one.cost.name)}{' *' if self.best(one) else ''}"
            rows.append([name, str(one.epochs), f"{one.value:.{digits}f}", *_costs(one.cost)])
        return Table(title, ["", "epochs", self.measure.title, "ms", "file", "parameters"], rows)

    def sentence(self) -> str:
        """Who wins, and whether that is near enough to the teacher."""
        name, digits = titled(self.winner.recipe.student.name), self.measure.digits
        distance = f"{abs(self.behind):.{digits}f} {self.measure.points} {'below' if self.behind >= 0 else 'above'}"
        line = f"{name} is {distance} the teacher on the test set"
        if self.within is None:
            return f"{line}."
        if self.holds:
            return f"{line}: within {self.within:g}, as asked."
        return f"{line}: not within {self.within:g}. Train longer (epochs=), or allow more latency or size."

    def _repr_html_(self) -> str:
        return html.table(self.table()) + html.notes([self.sentence()])


def _costs(one: Measured) -> list[str]:
    return [milliseconds(one.latency), size(one.bytes), f"{one.parameters:,}"]


def write_search_page(found: Found) -> Path:
    """search.html, with the table beside it as .md and .csv."""
    write_text(found.report.with_suffix(".md"), found.table().markdown())
    write_text(found.report.with_suffix(".csv"), found.table().csv())
    write_text(found.report, search_page(found))
    return found.report


def search_page(found: Found) -> str:
    """The page's HTML."""
    measure, winner = found.measure, found.winner
    place = winner.report.relative_to(found.folder) if winner.report.is_relative_to(found.folder) else winner.report
    drawings = [
        html.figure(f"{caption(measure)} against {kind}", better_corner(measure), _scatter(found, kind))
        for kind in ("latency", "size")
    ]
    table = found.table()
    rows = ["teacher", *("student" if one.cost.name == winner.recipe.student.name else "" for one in found.tried)]
    sections = [
        html.header("Attar · search", f"{found.teacher.name} → {titled(winner.recipe.student.name)}", found.sentence()),
        html.section(
            "Candidates", "Trained on one cached teacher, the better half of them longer.", html.table(table, rows)
        ),
        html.section("Accuracy against cost", "On validation images; of one training each.", html.grid(drawings)),
        html.section(
            "The winner",
            html.typeset(winner.sentence()),
            html.notes(winner.hints()),
            html.table(winner.score_table()),
            html.link(str(place), "Its report"),
        ),
    ]
    return html.document("Attar: search", "\n".join(filter(None, sections)), found.folder.name)


def _scatter(found: Found, kind: str) -> str:
    def dot(cost: Measured, value: float, role: str) -> Dot:
        x = cost.latency.median if kind == "latency" else cost.bytes / 1e6
        return Dot(titled(cost.name), role, value, value, value, x)

    winner = found.winner.recipe.student.name
    dots = [dot(found.teacher, found.teacher_value, "teacher")]
    dots += [dot(one.cost, one.value, "student" if one.cost.name == winner else "peer") for one in found.tried]
    label = "ms for one image" if kind == "latency" else "MB"
    return scatter(f"{found.measure.label} against {kind}", dots, label, found.measure.title, found.measure.digits)


def ordered(tried: Sequence[Tried], measure: Measure) -> tuple[Tried, ...]:
    """Those that were trained longest first, of these the best, and of equals the one of fewest parameters."""

    def place(one: Tried) -> tuple[int, float, int]:
        return -one.epochs, -one.value if measure.higher else one.value, one.cost.parameters

    return tuple(sorted(tried, key=place))
