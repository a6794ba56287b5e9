"""The page of several runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from attar.files import write_text
from attar.report import html
from attar.report.charts import Dot, dot_plot, line_chart, scatter
from attar.report.comparison import Comparison, read_comparison
from attar.report.run_page import INTERVALS, series

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
    best = max(found.students(), key=lambda student: fmean(student.top1))
    sentence = (
        f"{len(found.runs)} runs on {content.title}. The highest top-1 is {fmean(best.top1):.2f} %, of {best.label}."
    )
    rows = ["best" if name == best.label else "" for name in found.names]
    title = " · ".join(found.names) if len(found.names) <= TITLE else f"{len(found.names)} runs"
    sections = [
        html.header("Attar · comparison", title, sentence),
        html.section("Results", INTERVALS, _accuracy(found), html.table(content, rows)),
        html.section("Accuracy against cost", "Up and to the left is better.", _costs(found)),
        html.section("Differences", _how(found), _gaps(found)),
        html.section("How they learnt", _which(found), _legend(found), _curves(found)),
    ]
    version = found.runs[0].environment.get("attar", "")
    return html.document("Attar: comparison", "\n".join(filter(None, sections)), f"Attar {version}")


def hue(place: int) -> str:
    """A run's colour; further ones begin again."""
    return f"hue{place % HUES}"


def _dots(found: Comparison) -> list[Dot]:
    students = enumerate(found.students())
    return [Dot(student.label, hue(n), fmean(student.top1), *student.bounds) for n, student in students]


def _accuracy(found: Comparison) -> str:
    drawing = dot_plot("Top-1 accuracy with intervals", _dots(found), "top-1 %")
    return html.grid([html.figure("Top-1", "of the distilled student", drawing)])


def _costs(found: Comparison) -> str:
    drawings = []
    for key, caption, label in (("latency_ms", "latency", "ms an image"), ("parameters", "size", "parameters")):
        dots = _teachers(found, key)
        for own, run in zip(_dots(found), found.runs, strict=True):
            x = getattr(run.summary.runs[0]["student"].cost, key)
            dots.append(Dot(own.name, own.role, own.value, own.low, own.high, x))
        caption = f"Accuracy against {caption}"
        drawings.append(html.figure(caption, "", scatter(caption, dots, label, "top-1 %")))
    return html.grid(drawings)


def _teachers(found: Comparison, key: str) -> list[Dot]:
    """Every teacher once, however many runs it taught."""
    dots: dict[tuple[str, float, int], Dot] = {}
    for run in found.runs:
        for network in run.summary.networks():
            if network.key.startswith("teacher"):
                cost, top1 = network.results[0].cost, network.top1[0]
                dot = Dot(network.label, "teacher", top1, *network.bounds, getattr(cost, key))
                dots.setdefault((network.label, top1, cost.parameters), dot)
    return list(dots.values())


def _how(found: Comparison) -> str:
    return f"Top-1 of each run minus that of {found.names[0]}, paired over the seeds that both have."


def _gaps(found: Comparison) -> str:
    gaps = found.gaps()
    if not gaps:
        return ""
    places = {name: place for place, name in enumerate(found.names)}
    dots = [
        Dot(name, hue(places[name]), gap.mean, gap.mean - (gap.half_width or 0.0), gap.mean + (gap.half_width or 0.0))
        for name, _, gap in gaps
    ]
    drawing = dot_plot(f"Points over {found.names[0]}", dots, "points of top-1", signed=True)
    return html.pair(html.figure(f"Points over {found.names[0]}", "", drawing), html.table(found.gap_table()))


def _which(found: Comparison) -> str:
    return "The mean over the seeds" + (f", of the first {HUES} runs." if len(found.runs) > HUES else ".")


def _legend(found: Comparison) -> str:
    return html.legend({hue(place): name for place, name in enumerate(found.names[:HUES])})


def _curves(found: Comparison) -> str:
    drawings = []
    for key, caption in (("train_top1", "Training accuracy"), ("val_top1", "Validation accuracy")):
        lines = []
        for place, (name, run) in enumerate(zip(found.names[:HUES], found.runs[:HUES], strict=True)):
            lines += series(run.curves("student"), key, name, hue(place))[-1:]
        if lines:
            drawings.append(html.figure(caption, "", line_chart(caption, lines, "epoch", "top-1 %", height=250)))
    return html.grid(drawings)
