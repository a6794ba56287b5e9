"""Tables of exported files and of profiles."""

from __future__ import annotations

from collections.abc import Mapping

from attar.deploy.export import BATCH, Export
from attar.deploy.formats import FORMATS
from attar.profiling import Profile
from attar.report import html
from attar.report.latency import milliseconds
from attar.report.summary import size
from attar.report.tables import Table


def export_table(export: Export) -> Table:
    """Each file's size, how far it is from the student, its accuracy and its speed."""
    rows, measure = [], export.scoring.primary
    for file in export.files:
        parity = file.parity
        rows.append(
            [
                file.format,
                size(file.bytes),
                "not run" if parity is None else distance(parity.max_difference),
                "" if parity is None or parity.same_label is None else f"{100 * parity.same_label:.2f}",
                "" if parity is None else measure.text(parity.score),
                "" if file.latency is None else milliseconds(file.latency),
                "" if file.batch_latency is None else milliseconds(file.batch_latency),
            ]
        )
    columns = ["format", "size", "diff", "same %", measure.title, "ms, 1", f"ms, {BATCH}"]
    return Table(f"Exported ({export.data}, {export.count:,} test {export.scoring.samples}, one thread)", columns, rows)


def export_notes(export: Export) -> str:
    """What the columns of that table mean."""
    calibrated = next((file.calibrated for file in export.files if file.calibrated), None)
    notes = [note for file in export.files if (note := FORMATS[file.format].note)]
    both = any(file.batch_latency for file in export.files)
    passes = f"1 and with {BATCH} {export.scoring.samples}" if both else f"1 {export.scoring.sample}"
    lines = [
        "diff: the largest distance from an output of the student in PyTorch; same: with the student's label; "
        f"ms: median of a pass with {passes} (distance of the quartiles)."
    ]
    if calibrated:
        lines.append(f"The 8-bit scales were read off {calibrated:,} training images.")
    if export.within is not None:
        made = next((f"; made by: {file.made}" for file in export.files if file.made), "")
        lines.append(f"Eight bits were allowed to lose {export.within:g} {export.scoring.primary.points}{made}.")
    if export.temperature != 1:
        lines.append(f"Graphs divide logits by the temperature {export.temperature:.2f}, fitted on validation images.")
    return " ".join([*lines, *notes])


class CostPage(Profile):
    """A profile that a notebook shows as the table that the terminal prints."""

    def _repr_html_(self) -> str:
        table = profile_table({"network": self})
        return html.notes([table.title]) + html.table(table) + html.notes([profile_notes(self.batch)])


def profile_table(profiles: Mapping[str, Profile]) -> Table:
    """What each network costs; all of them were measured with the same batch size and number of threads."""
    first = next(iter(profiles.values()))
    rows = [
        [
            name,
            f"{found.parameters:,}",
            f"{found.macs / 1e6:.2f}",
            milliseconds(found.latency),
            milliseconds(found.batch_latency),
            size(found.memory),
            size(found.bytes),
        ]
        for name, found in profiles.items()
    ]
    columns = ["", "params", "M MACs", "ms, 1", f"ms, {first.batch}", "memory", "file"]
    plural = "" if first.threads == 1 else "s"
    return Table(f"Cost of one input ({first.threads} thread{plural})", columns, rows)


def profile_notes(batch: int) -> str:
    """What the columns of that table mean."""
    return (
        f"ms: median of a pass with 1 and with {batch} inputs (distance of the quartiles); memory: the most that an "
        "input's activations take at once, weights not counted."
    )


def distance(value: float) -> str:
    """A difference of logits, short.

    >>> distance(0.0), distance(0.0000123), distance(5.88)
    ('0', '1e-05', '5.9')
    """
    if value == 0:
        return "0"
    return f"{value:.2g}" if value >= 0.01 else f"{value:.0e}"
