"""The students that `suggest` found, as a table, and what to read off it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import Any

from attar.methods import list_methods, method_info
from attar.profiling import Measured, Suggestion
from attar.recipe import read_recipe
from attar.report import html
from attar.report.latency import milliseconds, verdict
from attar.report.summary import size
from attar.report.tables import Table

SCALES = (("G", 1e9), ("M", 1e6), ("k", 1e3))
MEDIAN = "ms: median of a pass (distance of the quartiles)."
# A distance of the quartiles above this share of the median means that something else was running.
BUSY = 0.2


class SuggestionPage(Suggestion):
    """A suggestion that a notebook shows as the table that the terminal prints."""

    def _repr_html_(self) -> str:
        table, lines = suggestion_table(self), suggestion_notes(self).splitlines()
        return html.notes([table.title]) + html.table(table) + html.notes(lines)


def suggestion_table(found: Suggestion) -> Table:
    """The teacher, then its students; where there is none, the nearest networks and what they exceed."""
    side, plural = found.image_shape[-1], "" if found.threads == 1 else "s"
    own = "" if found.teacher_size == side else f", the teacher {found.teacher_size}x{found.teacher_size}"
    where = f"{side}x{side}{own}, batch {found.batch}, {found.threads} thread{plural}"
    budget = ", ".join(amount(key, most) for key, most in found.budget.given.items()) or "smaller"
    teacher, head = found.teacher, "Students of" if found.students else "No student of"
    rows = [row(one) + beside(one, teacher, found) for one in (teacher, *(found.students or found.nearest))]
    columns = ["", "file", "M MACs", "ms", *(("smaller", "faster") if found.students else ("over budget",))]
    return Table(f"{head} {teacher.name}: {budget} ({where})", columns, rows)


def row(one: Measured) -> list[str]:
    """What one network costs."""
    return [one.name, size(one.bytes), f"{one.macs / 1e6:.1f}", milliseconds(one.latency)]


def beside(one: Measured, teacher: Measured, found: Suggestion) -> list[str]:
    """A student beside its teacher, or a network beside the budget."""
    if not found.students:
        return [over_budget(one) or "teacher"]
    if one is teacher:
        return ["", ""]
    ratio = f"{teacher.latency.median / one.latency.median:.1f}x"
    faster = {"ratio": ratio, "alike": "as fast"}.get(verdict(teacher.latency, one.latency), "?")
    return [f"{teacher.parameters / one.parameters:.1f}x", faster]


def over_budget(one: Measured) -> str:
    """What a network exceeds, and how many times: "params 1.20x, ms 2.00x"."""
    return ", ".join(f"{key} {ratio:.2f}x" for key, ratio in one.misses.items())


def suggestion_notes(found: Suggestion) -> str:
    """What the order and the columns mean, and what became of the other names."""
    if found.students:
        order = "Most parameters first: room to learn, no promise of accuracy. smaller: by parameters; "
        lines = [order + MEDIAN, *stages_note(found.students), *weights_note(found.students)]
    elif found.nearest:
        lines = [f"These miss it by the least (cost / budget; a student may not be slower, either). {MEDIAN}"]
    else:
        lines = ["No network that was looked at is smaller than the teacher; --among widens the names."]
    if busy := unsteady(found):
        lines.append(f"{busy} of these times spread widely: something else was running; repeat on a quiet machine.")
    reasons = sorted(found.left_out.items(), key=lambda pair: -pair[1])
    left_out = "; ".join(f"{count} {reason}" for reason, count in reasons if count)
    names = f"{found.considered} name{'s' * (found.considered != 1)} looked at, {found.timed} built and timed"
    return "\n".join([*lines, f"{names}. Left out: {left_out or 'none'}."])


def unsteady(found: Suggestion) -> int:
    """How many of the measured latencies spread widely."""
    times = [one.latency for one in (found.teacher, *(found.students or found.nearest))]
    return sum(time.spread > BUSY * time.median for time in times)


def stages_note(students: Sequence[Measured]) -> list[str]:
    """Which students have no stages, and how many methods that rules out."""
    without = [one.name for one in students if not one.stages]
    if not without:
        has, them = ("It has", "it") if len(students) == 1 else ("All have", "them")
        return [f"{has} stages: every method can work inside {them}."]
    needing = sum("stages" in method_info(name).needs for name in list_methods())
    which = "all of them" if len(without) == len(students) > 1 else ", ".join(without)
    return [
        f"Without stages: {which}. The {needing} methods that need stages (`attar list methods`) do not run there by "
        "default."
    ]


def weights_note(students: Sequence[Measured]) -> list[str]:
    """Which students can begin from published weights; nothing where none can."""
    without = [one.name for one in students if not one.pretrained]
    if len(without) == len(students):
        return []
    which = f"All but {', '.join(without)} have" if without else "It has" if len(students) == 1 else "All have"
    return [f"{which} published weights to begin from: student.weights=pretrained."]


def next_command(found: Suggestion) -> str:
    """How to distil the first of the students."""
    side, largest = found.image_shape[-1], max(found.image_shape[-1], found.teacher_size)
    smaller = f"student.options.input_size={side} " if side < largest else ""
    weights = "" if Path(found.teacher.name).expanduser().exists() else "teacher.weights=FILE "
    return (
        f"attar distill teacher={quote(found.teacher.name)} {weights}student={found.students[0].name} {smaller}"
        f"{data_of(found.teacher.name)} data.image_size={largest}"
    )


def data_of(teacher: str) -> str:
    """The keys of the data that a teacher's run learnt from; placeholders where no recipe names them."""
    place = Path(teacher).expanduser()
    file = (place if place.is_dir() else place.parent) / "recipe.yaml"
    data = read_recipe(file).data if place.exists() and file.is_file() else None
    if data is None or data.name.startswith("given:"):
        return "data=folder data.root=DIR"
    return f"data={quote(data.name)}" + (f" data.root={quote(data.root)}" if data.root else "")


def suggestion_json(found: Suggestion) -> dict[str, Any]:
    """Everything as plain data; budgets that nobody gave are left out."""
    return {
        **asdict(found),
        "budget": found.budget.given,
        "teacher": network_json(found.teacher),
        "students": [network_json(one) for one in found.students],
        "nearest": [network_json(one) for one in found.nearest],
        "next": next_command(found) if found.students else None,
    }


def network_json(one: Measured) -> dict[str, Any]:
    """A network as plain data, its times by name."""
    return {**asdict(one), "latency": one.latency._asdict()}


def amount(kind: str, most: float) -> str:
    """A budget, short.

    >>> amount("latency", 5.0), amount("size", 2e7), amount("params", 5e6), amount("macs", 1.2e9)
    ('5 ms', '20 MB', '5 M parameters', '1.2 G MACs')
    """
    if kind == "latency":
        return f"{most:g} ms"
    letter, scale = next((pair for pair in SCALES if most >= pair[1]), ("", 1.0))
    unit = {"macs": " MACs", "params": " parameters"}.get(kind, "B" + " of memory" * (kind == "memory"))
    return f"{most / scale:.4g} {letter}{unit}".replace("  ", " ")
