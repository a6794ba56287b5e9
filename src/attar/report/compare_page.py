"""The page of several runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attar.files import write_text
from attar.report import html
from attar.report.charts import Dot, dot_plot, line_chart, scatter
from attar.report.comparison import Comparison, read_comparison
from attar.report.run_page import better_corner, caption, intervals, series

# So many colours can be distinguished; so many names fit a title.
HUES, TITLE = 8, 4


def compare_runs(folders: Sequence[str | Path], out: str | Path = "compare.html") -> Comparison:
    """Read the runs, and write the page and beside it the tables as Markdown and CSV.

    Raises:
        AttarError: as `read_comparison`; nothing has been written then.
    """
    found = read_comparison(folders, out)
    html_text = compare_page(found)
    write_text(found.report.with_suffix(".md"), found.markdown())
    write_text(found.report.with_suffix(".csv"), found.table().csv())
    write_text(found.report, html_text)
    return found


def compare_page(found: Comparison) -> str:
    """The page's HTML."""
    content = found.table()
    measure = found.scoring.primary
    best = found.best()
    most, value = "highest" if measure.higher else "lowest", measure.value(best.mean)
    sentence = f"{len(found.runs)} runs on {content.title}. The {most} {measure.label} is {value}, of {best.label}."
    curves = _curves(found)
    rows = ["best" if name == best.label else "" for name in found.names]
    title = " · ".join(found.names) if len(found.names) <= TITLE else f"{len(found.names)} runs"
    sections = [
        html.header("Attar · comparison", title, sentence),
        html.notes(found.hints()),
        html.section("Results", intervals(measure), _scores(found), html.table(content, rows)),
        html.section(f"{caption(measure)} against cost", better_corner(measure).capitalize() + ".", _costs(found)),
        html.section("Differences", _how(found), _gaps(found)),
        html.section("How they learnt", _which(found), *([_legend(found), curves] if curves else [])),
    ]
    version = found.runs[0].environment.get("attar", "")
    return html.document("Attar: comparison", "\n".join(filter(None, sections)), f"Attar {version}")


def hue(place: int) -> str:
    """A run's colour; further ones begin again."""
    return f"hue{place % HUES}"


def _dots(found: Comparison) -> list[Dot]:
    students = enumerate(found.students())
    return [Dot(student.label, hue(n), student.mean, *student.range) for n, student in students]


def _scores(found: Comparison) -> str:
    measure = found.scoring.primary
    drawing = dot_plot(f"{caption(measure)} with intervals", _dots(found), measure.title, measure.digits)
    return html.grid([html.figure(caption(measure), "of the distilled student", drawing)])


def _costs(found: Comparison) -> str:
    drawings, measure = [], found.scoring.primary
    kinds = (("latency_ms", "latency", f"ms for one {found.scoring.sample}"), ("parameters", "size", "parameters"))
    for key, kind, label in kinds:
        dots = _teachers(found, key)
        for own, run in zip(_dots(found), found.runs, strict=True):
            if (x := getattr(run.summary.runs[0]["student"].cost, key)) is not None:
                dots.append(Dot(own.name, own.role, own.value, own.low, own.high, x))
        title = f"{caption(measure)} against {kind}"
        if dots:
            drawings.append(html.figure(title, "", scatter(title, dots, label, measure.title, measure.digits)))
    return html.grid(drawings)


def _teachers(found: Comparison, key: str) -> list[Dot]:
    """Every teacher once, however many runs it taught."""
    dots: dict[tuple[str, float, int], Dot] = {}
    for run in found.runs:
        for network in run.summary.networks():
            if network.key.startswith("teacher"):
                cost, value = network.results[0].cost, network.values[0]
                if (x := getattr(cost, key)) is None:
                    continue
                dot = Dot(network.label, "teacher", value, *network.range, x)
                dots.setdefault((network.label, value, cost.parameters), dot)
    return list(dots.values())


def _how(found: Comparison) -> str:
    measure = caption(found.scoring.primary)
    return f"{measure} of each run minus that of {found.names[0]}, paired over the seeds that both have."


def _gaps(found: Comparison) -> str:
    gaps = found.gaps()
    if not gaps:
        return ""
    places = {name: place for place, name in enumerate(found.names)}
    dots = [
        Dot(name, hue(places[name]), gap.mean, gap.mean - (gap.half_width or 0.0), gap.mean + (gap.half_width or 0.0))
        for name, _, gap in gaps
    ]
    primary = found.scoring.primary
    points = primary.points
    title = f"{points[:1].upper()}{points[1:]} over {found.names[0]}"
    drawing = dot_plot(title, dots, f"difference in {primary.label}", primary.digits, signed=True)
    return html.pair(html.figure(title, "", drawing), html.table(found.gap_table()))


def _which(found: Comparison) -> str:
    return "The mean over the seeds" + (f", of the first {HUES} runs." if len(found.runs) > HUES else ".")


def _legend(found: Comparison) -> str:
    return html.legend({hue(place): name for place, name in enumerate(found.names[:HUES])})


def _curves(found: Comparison) -> str:
    drawings, measure = [], found.scoring.primary
    for kind, title in (("train", f"Training {measure.label}"), ("val", f"Validation {measure.label}")):
        key = f"{kind}_{measure.name}"
        lines = []
        for place, (name, run) in enumerate(zip(found.names[:HUES], found.runs[:HUES], strict=True)):
            lines += series(run.curves("student"), key, name, hue(place))[-1:]
        if lines:
            drawings.append(html.figure(title, "", line_chart(title, lines, "epoch", measure.title, height=250)))
    return html.grid(drawings)
