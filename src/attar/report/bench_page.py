"""The page of a suite: its pairs with intervals, differences and costs, and all pairs side by side."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from statistics import fmean

from attar.files import write_text
from attar.report import html
from attar.report.bench_files import read_bench
from attar.report.bench_tables import BenchTables, Row
from attar.report.charts import Dot, dot_plot, line_chart, scatter
from attar.report.compare_page import HUES, hue
from attar.report.rank_chart import rank_chart
from attar.report.run_page import better_corner, caption, intervals, series

PAGE = "report.html"
HOW = (
    "n: finished runs, one a seed. Deviation: that of the sample. Intervals: 95 %, of the mean over the seeds, by "
    "Student's t."
)


def write_bench_page(tables: BenchTables) -> Path:
    """Write the page of a suite."""
    path = tables.files.folder / PAGE
    write_text(path, bench_page(tables))
    return path


def rewrite_bench(folder: str | Path) -> Path:
    """Write the tables and the page of a suite again, from the files in its folder.

    Raises:
        AttarError: the folder is not that of a suite.
    """
    tables = BenchTables(read_bench(folder))
    write_tables(tables)
    return write_bench_page(tables)


def write_tables(tables: BenchTables) -> None:
    """Write the tables of a suite as Markdown and LaTeX, and its runs as CSV."""
    folder = tables.files.folder
    write_text(folder / "table.md", tables.markdown())
    write_text(folder / "table.tex", tables.latex())
    write_text(folder / "runs.csv", tables.csv())


def bench_page(tables: BenchTables) -> str:
    """The page's HTML."""
    files = tables.files
    sections = [
        html.header("Attar · suite", files.folder.resolve().name, _sentence(tables)),
        html.notes([f"Failed: {cell.title}: {reason}" for cell, reason in files.failed.items()]),
        _overview(tables),
        *(_pair(tables, column) for column in files.columns),
        _reading(tables),
    ]
    environment = next((run.environment for run in files.runs.values()), {})
    version = environment.get("attar", "")
    return html.document(
        f"{files.folder.resolve().name}: suite", "\n".join(filter(None, sections)), f"Attar {version}".strip()
    )


def _sentence(tables: BenchTables) -> str:
    """How much is done, and which row leads on each pair."""
    files = tables.files
    counts = [_count(len(files.rows), "method"), _count(len(files.columns), "pair"), _count(len(files.seeds), "seed")]
    state = f"{len(files.done)} of {len(files.cells)} runs done" + (
        f", {len(files.failed)} failed" if files.failed else ""
    )
    parts = [f"{', '.join(counts)}: {state}."]
    for column in files.columns:
        methods = [line for line in _drawn(tables.lines(column)) if line.kind == "method"]
        if methods and (measure := tables.measure(column)):
            best = (max if measure.higher else min)(methods, key=lambda line: line.network.mean)
            most = "highest" if measure.higher else "lowest"
            value = measure.value(best.network.mean)
            parts.append(f"{column}: the {most} mean {measure.label} is {value}, of {best.label}.")
    return " ".join(parts)


def _count(count: int, what: str) -> str:
    """
    >>> _count(1, "pair"), _count(3, "seed")
    ('1 pair', '3 seeds')
    """
    return f"{count} {what}{'s' if count != 1 else ''}"


def _overview(tables: BenchTables) -> str:
    """All pairs side by side, and the average ranks over them."""
    if len(tables.files.columns) < 2:
        return ""
    content = tables.overview()
    parts = [html.table(content)]
    if ranks := tables.ranks():
        rows, found = ranks
        drawing = rank_chart("Average ranks", rows, found.ranks, found.difference)
        note = f"over {found.cases} pairs; a bar joins methods that are not told apart (Nemenyi, 5 %)"
        parts.insert(0, html.grid([html.figure("Average ranks", note, drawing)]))
    return html.section("All pairs", f"{content.title}: mean and deviation.", *parts)


def _pair(tables: BenchTables, column: str) -> str:
    """A pair's charts and table."""
    lines, measure, content = tables.lines(column), tables.measure(column), tables.pair_table(column)
    if measure is None:
        return html.section(column, "No run is done yet.", html.table(content))
    name = caption(measure)
    places = {row: hue(number) for number, row in enumerate(tables.files.rows)}
    dots = [_dot(line, places) for line in _drawn(lines) if line.kind != "other"]
    drawing = dot_plot(f"{name} on {column}", dots, measure.title, measure.digits) if dots else ""
    figures = [html.figure(name, "with 95 % intervals", drawing)] if drawing else []
    gaps = [(row, gap) for row in tables.files.rows if (gap := tables.gap(row, column)) is not None]
    if gaps:
        halves = [gap.half_width or 0.0 for _, gap in gaps]
        moved = [
            Dot(row, places[row], gap.mean, gap.mean - half, gap.mean + half)
            for (row, gap), half in zip(gaps, halves, strict=True)
        ]
        over = f"{measure.points} over {tables.files.control}"
        title = f"{over[:1].upper()}{over[1:]}"
        figures.append(html.figure(title, "paired by seed", dot_plot(title, moved, over, measure.digits, signed=True)))
    figures.append(_cost(tables, column, lines, places))
    figures.append(_curves(tables, column, places))
    kinds = [{"teacher": "teacher", "method": "", "other": ""}[line.kind] for line in lines]
    return html.section(
        content.title, intervals(measure), html.grid(list(filter(None, figures))), html.table(content, kinds)
    )


def _drawn(lines: list[Row]) -> list[Row]:
    """The lines that have a place in a chart: a mean may be infinite or NaN."""
    return [line for line in lines if isfinite(line.network.mean)]


def _dot(line: Row, places: dict[str, str], x: float = 0.0) -> Dot:
    role = "teacher" if line.kind == "teacher" else places[line.of]
    return Dot(line.label, role, line.network.mean, *line.network.range, x=x)


def _cost(tables: BenchTables, column: str, lines: list[Row], places: dict[str, str]) -> str:
    """The measure against the time that a training takes."""
    measure, dots = tables.measure(column), []
    for line in _drawn(lines):
        seconds = tables.files.seconds(line.of, column) if line.kind == "method" else []
        if seconds:
            dots.append(_dot(line, places, fmean(seconds) / 60))
    if measure is None or not dots:
        return ""
    title = f"{caption(measure)} against minutes of training"
    return html.figure(
        title, better_corner(measure).capitalize(), scatter(title, dots, "minutes", measure.title, measure.digits)
    )


def _curves(tables: BenchTables, column: str, places: dict[str, str]) -> str:
    """The validation measure over the epochs."""
    measure, lines = tables.measure(column), []
    if measure is None:
        return ""
    for row, run in list(tables.runs(column).items())[:HUES]:
        lines += series(run.curves("student"), f"val_{measure.name}", row, places[row])[-1:]
    if not lines:
        return ""
    title = f"Validation {measure.label}"
    more = f", the first {HUES} methods" if len(tables.runs(column)) > HUES else ""
    return html.figure(
        title, f"mean over the seeds{more}", line_chart(title, lines, "epoch", measure.title, height=250)
    )


def _reading(tables: BenchTables) -> str:
    """How the numbers are to be read, and where the runs are."""
    notes = [line for line in tables.notes() if not line.startswith("Failed: ")]
    environment = next((run.environment for run in tables.files.runs.values()), {})
    runtime = environment.get("runtime")
    facts = {key: str(value) for key, value in environment.items() if key != "runtime" and value is not None}
    if isinstance(runtime, dict):
        facts |= {key: str(runtime[key]) for key in ("precision", "threads") if runtime.get(key)}
    return html.section(
        "How to read this",
        HOW,
        html.notes(notes),
        html.facts({"tables": "table.md, table.tex", "every run": "runs.csv", **facts}),
    )
