"""report.html of a finished run, section by section, from the files in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from statistics import fmean
from typing import Any

from attar.deploy import read_export
from attar.files import write_text
from attar.metrics import Gap, Measure
from attar.profiling import Cost
from attar.recipe import data_title, titled, to_yaml
from attar.report import html
from attar.report.axes import MINUS, clipped
from attar.report.charts import Dot, Line, dot_plot, line_chart, scatter
from attar.report.exports import export_notes, export_table
from attar.report.latency import latency_of, milliseconds, verdict
from attar.report.prediction_sections import prediction_sections
from attar.report.received_svg import safe_svg
from attar.report.run_files import RunFiles, read_run
from attar.report.summary import Network, Summary, size
from attar.report.tables import Table

TIMES = "\u00d7"
INTERVALS = "Bars are 95 % intervals of the mean over the seeds, by Student's t; "
OF_ONE = {
    True: "of a network measured once, what the finite test set leaves open (Wilson).",
    False: "a network measured once has none.",
}


def write_report(folder: str | Path) -> Path:
    """Write report.html of a finished run.

    Raises:
        AttarError: the folder holds no finished run, or a file in it is damaged.
    """
    run = read_run(folder)
    path = run.folder / "report.html"
    write_text(path, run_page(run))
    return path


def run_page(run: RunFiles) -> str:
    """The page's HTML."""
    summary, recipe = run.summary, run.recipe
    title = " → ".join(filter(None, [titled(recipe.teacher.name), titled(recipe.student.name)]))
    above = f"Attar · {recipe.method.name} · {data_title(recipe.data)}"
    sections = [
        html.header(above, title, summary.sentence() or _plainly(run)),
        html.notes(summary.hints()),
        _tiles(run),
        _scores(run),
        _cost(run),
        _exports(run),
        _curves(run),
        _edges(run),
        _graph(run),
        *prediction_sections(run),
        html.section(
            "Recipe", "Everything the run depends on, with every default spelled out.", html.code(to_yaml(recipe))
        ),
        html.section("Environment", "Where it ran.", _environment(run.environment)),
        _again(run),
    ]
    version = run.environment.get("attar", "")
    return html.document(
        f"{title}: {recipe.method.name}", "\n".join(filter(None, sections)), f"{run.folder.name} · Attar {version}"
    )


def _plainly(run: RunFiles) -> str:
    """The headline of a network that stands alone."""
    network = next(network for network in run.summary.networks() if network.key == "student")
    return f"{network.label} on the test set: {network.measure.phrase(fmean(network.values))}."


def intervals(measure: Measure) -> str:
    """What the bars of a chart are."""
    return INTERVALS + OF_ONE[measure.share]


def caption(measure: Measure) -> str:
    """What a chart of a measure is called.

    >>> caption(Measure("top1", "top-1 %")), caption(Measure("map", "mAP %"))
    ('Top-1', 'mAP')
    """
    word = measure.label[:2]
    return measure.label if word != word.lower() else measure.label[:1].upper() + measure.label[1:]


def better_corner(measure: Measure) -> str:
    """Where the better networks are in a chart of a measure over the cost."""
    return f"{'up' if measure.higher else 'down'} and to the left is better"


def role(network: Network) -> str:
    """The class of a network's marks."""
    if network.key.startswith("teacher"):
        return "teacher"
    return network.key if network.key in ("alone", "student") else "peer"


def _row_class(summary: Summary, network: Network) -> str:
    """The class of a network's row: a student that is worse than alone has not the colour of a gain."""
    return "worse" if summary.worse and network.key == "student" else role(network)


def dot(network: Network, x: float = 0.0) -> Dot:
    """A network's primary measure with its interval."""
    return Dot(network.label, role(network), fmean(network.values), *network.range, x=x)


def _tiles(run: RunFiles) -> str:
    summary = run.summary
    student = summary.runs[0]["student"].cost
    points, digits = summary.measure.points, summary.measure.digits
    gaps = ((f"{points} over the student alone", summary.gap), (f"{points} against its teacher", summary.teacher_gap))
    gained = [(label, signed(gap.mean, digits), _within(gap, digits)) for label, gap in gaps if gap is not None]
    if summary.teachers:
        teacher = summary.teachers[0].cost
        found = [_fewer(teacher.parameters, student.parameters), _speed(teacher, student, summary.scoring.sample)]
        gain = summary.gap is not None and summary.gap.mean != 0 and not summary.worse
        return html.tiles(found + gained, key=2 if gain else None)  # a loss has not the colour of gains
    network = next(network for network in summary.networks() if network.key == "student")
    bounds = f"95 % interval {network.between}" if network.between else ""
    computed = "" if student.macs is None else f"{student.macs / 1e6:.2f} M multiply-accumulates"
    found = [
        (network.measure.label, network.measure.value(fmean(network.values)), bounds),
        ("parameters", f"{student.parameters:,}", "" if student.bytes is None else f"a file of {size(student.bytes)}"),
        (f"one {summary.scoring.sample}", f"{milliseconds(latency_of(student))} ms", computed),
    ]
    return html.tiles(found + gained, key=0)


def _fewer(teacher: int, student: int) -> tuple[str, str, str]:
    """The tile of parameters; an exported teacher has no count of them."""
    if not teacher:
        return "parameters", f"{student:,}", "the teacher's are in its file"
    return *_ratio(teacher, student, "fewer parameters", "more parameters"), f"{student:,} of {teacher:,}"


def _speed(teacher: Cost, student: Cost, sample: str) -> tuple[str, str, str]:
    """The tile of latencies: a ratio only where they can be compared (`attar.report.latency`)."""
    own, other = latency_of(student), latency_of(teacher)
    both = f"{milliseconds(own)} ms for one {sample}, not {milliseconds(other)} ms"
    found = verdict(other, own)
    if found == "ratio" and own is not None and other is not None:
        return *_ratio(other.median, own.median, "faster", "slower"), both
    what = {"alike": "as fast", "unsteady": "too unsteady to compare"}.get(found, "latency not measured")
    return what, f"{milliseconds(own)} ms", f"the teacher {milliseconds(other)} ms"


def _ratio(teacher: float, student: float, less: str, more: str) -> tuple[str, str]:
    """What a student has less of, or more, and how many times."""
    if teacher >= student:
        return less, f"{teacher / student:.1f}{TIMES}"
    return more, f"{student / teacher:.1f}{TIMES}"


def signed(value: float, digits: int = 2) -> str:
    """With a sign, and a true minus.

    >>> signed(1.5), signed(-0.25)
    ('+1.50', '−0.25')
    """
    return f"{value:+.{digits}f}".replace("-", MINUS)


def _within(gap: Gap, digits: int) -> str:
    if gap.half_width is None:
        return gap.untested
    low, high = (signed(gap.mean + side * gap.half_width, digits) for side in (-1, 1))
    return f"95 % interval {low} to {high}"


def _scores(run: RunFiles) -> str:
    summary, networks, measure = run.summary, run.summary.networks(), run.summary.measure
    content = summary.score_table()
    rows = [[*row[:2], one.between, *row[2:]] for row, one in zip(content.rows, networks, strict=True)]
    content = Table(content.title, [*content.columns[:2], "95 % interval", *content.columns[2:]], rows)
    name = caption(measure)
    drawing = dot_plot(f"{name} with intervals", [dot(network) for network in networks], measure.title, measure.digits)
    notes = [one.note for one in summary.scoring.measures if one.note and one.title in content.columns]
    return html.section(
        "Scores",
        " ".join([intervals(measure), *notes]),
        html.pair(
            html.figure(name, content.title, drawing),
            html.table(content, [_row_class(summary, network) for network in networks]),
        ),
    )


def _cost(run: RunFiles) -> str:
    networks, measure, sample = run.summary.networks(), run.summary.measure, run.summary.scoring.sample
    name, better = caption(measure), better_corner(measure)
    latencies = [(network, network.results[0].cost.latency_ms) for network in networks]
    times = [dot(network, median) for network, median in latencies if median is not None]
    counts = [(network, network.results[0].cost.parameters) for network in networks]
    sizes = [dot(network, count) for network, count in counts if count]
    kinds = (("latency", times, f"ms for one {sample}"), ("parameters", sizes, "parameters"))
    drawings = [
        html.figure(
            f"{name} against {kind}",
            better,
            scatter(f"{name} against {kind}", dots, label, measure.title, measure.digits),
        )
        for kind, dots, label in kinds
        if dots
    ]
    return html.section(
        "Cost",
        f"Of one {sample} at a time, on the machine that trained; the file holds float32 weights.",
        html.table(run.summary.cost_table(), [_row_class(run.summary, network) for network in networks]),
        html.grid(drawings if len(networks) > 1 else []),
    )


def _exports(run: RunFiles) -> str:
    """The exported files, where there are any."""
    if (done := read_export(run.folder / "export")) is None:
        return ""
    failed = [f"{name} was not exported: {reason}" for name, reason in done.failures.items()]
    return html.section("Exported files", export_notes(done), html.table(export_table(done)), html.notes(failed))


def series(runs: Sequence[list[dict[str, Any]]], key: str, name: str, kind: str) -> list[Line]:
    """A number over the epochs: the mean of the seeds, and every seed behind it."""
    kept = [records for records in runs if all(key in record for record in records)]
    if not kept:
        return []
    epochs = [record["epoch"] for record in kept[0]]
    values = [[record[key] for record in records] for records in kept if len(records) == len(epochs)]
    mean = [fmean(column) for column in zip(*values, strict=True)]
    faint = [Line(f"{name}, seed {n}", kind, epochs, one, faint=True) for n, one in enumerate(values, 1)]
    return [*(faint if len(faint) > 1 else []), Line(name, kind, epochs, mean)]


def _curves(run: RunFiles) -> str:
    student = run.curves("student")
    alone = run.curves("alone") if "alone" in run.summary.runs[0] else []
    drawings, measure = [], run.summary.measure
    for key, name, label in (
        ("loss", "Total loss", "loss"),
        (f"train_{measure.name}", f"Training {measure.label}", measure.title),
        (f"val_{measure.name}", f"Validation {measure.label}", measure.title),
    ):
        # The student alone has another loss, which is no fair comparison.
        others = series(alone, key, "alone", "alone") if key != "loss" else []
        lines = [*others, *series(student, key, "distilled", "student")]
        if lines:
            last = f"ends at {lines[-1].y[-1]:.4g}"
            drawings.append(html.figure(name, last, line_chart(name, lines, "epoch", label)))
    roles = {"student": f"{titled(run.recipe.student.name)} distilled", "alone": "alone"} if alone else {}
    more = " The bold line is the mean of the seeds." if len(student) > 1 else ""
    keys = html.legend(roles) if drawings and roles else ""
    return html.section("How it learnt", f"Over the epochs.{more}" if drawings else "", keys, html.grid(drawings))


def _edges(run: RunFiles) -> str:
    runs = [[{"epoch": record["epoch"], **record.get("terms", {})} for record in one] for one in run.curves("student")]
    names = [name for name in (runs[0][0] if runs else {}) if name != "epoch"]
    drawings = []
    for name in names:
        lines = series(runs, name, name, "student")
        if lines:
            title = clipped(name.replace("->", " → "), 60)
            note = f"from {lines[-1].y[0]:.3g} to {lines[-1].y[-1]:.3g}"
            drawings.append(html.figure(title, note, line_chart(title, lines, "epoch", "loss", height=160)))
    return html.section("Who taught what", "The loss of every edge before its weight.", html.grid(drawings))


def _graph(run: RunFiles) -> str:
    graph = safe_svg(run.graph)
    drawing = f'<div class="wide">{graph}</div>' if graph else ""
    return html.section("Who teaches whom", "An arrow runs from who teaches to who learns.", drawing)


def _environment(found: dict[str, Any]) -> str:
    runtime = found.get("runtime") if isinstance(found.get("runtime"), dict) else {}
    flat = {**found, **{f"runtime {key}".replace("_", " "): value for key, value in (runtime or {}).items() if value}}
    pairs = {key: _shown(value) for key, value in flat.items() if key != "runtime" and value is not None}
    return html.facts(pairs) if pairs else ""


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    if isinstance(value, dict):  # of a teacher: how it computes
        return " ".join(key if held is True else str(held) for key, held in value.items() if held)
    return str(value).replace("\n", "; ")


def _again(run: RunFiles) -> str:
    verb = "train" if run.recipe.method.name == "supervised" else "distill"
    given = [key for key in ("teacher", "student", "data") if getattr(run.recipe, key).name.startswith("given:")]
    if given:
        note = f"The {given[0]} was an object in Python, so the command line alone cannot repeat this run."
        return html.section("Again", "", html.facts({"note": note}))
    name = quote(run.folder.name)
    lines = [f"attar {verb} {name}/recipe.yaml out=again", f"attar report {name}"]
    if verb == "distill":
        lines.insert(1, f"attar compare {name} again")
    return html.section(
        "Again",
        "The same run in a new folder, the two side by side, and this page again.",
        html.code("\n".join(lines)),
    )
