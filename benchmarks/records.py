"""Records of finished suites, and the page that is made of them.

    python benchmarks/records.py keep runs/bench-five five-with-teacher   # the small files of a suite, to be committed
    python benchmarks/records.py page          # docs/results.md and its pictures, from all records
    python benchmarks/records.py brief digits-five                        # a table of the README, to paste

A record is a suite's folder with what its tables need: recipes, scores, times and environments, without weights,
checkpoints and predictions. `attar report` and `attar compare` read it as they read the suite, and a copy of it is a
suite's folder that `attar bench` goes on with: a method that is added to the suite is trained, and before it, for each
seed, a teacher that had no weights. A record without choices.json leaves threads and the engine to the machine. A note
in benchmarks/records/NAME/about.md stands above its tables; its first line is the heading.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from attar.experiments.inputs_record import RECORD as INPUTS
from attar.experiments.kept_choices import FILE as CHOICES
from attar.report.bench_files import CELLS, NOTE, read_bench
from attar.report.bench_tables import BenchTables
from attar.report.run_files import RunFiles
from attar.report.tables import Table

ROOT = Path(__file__).parents[1]
RECORDS, PAGE = ROOT / "benchmarks" / "records", ROOT / "docs" / "results.md"
PICTURES = {"cifar100-fast": ROOT / "docs" / "images" / "cifar100-minutes.svg"}
# What a record keeps of each run.
KEPT = ("recipe.yaml", "results.json", "environment.json", INPUTS, NOTE)
# Scores that no table shows: thousands of numbers a run.
LEFT_OUT = ("per_class", "confusion")
INTRODUCTION = """# Results

Made by `python benchmarks/records.py page` from the run records in `benchmarks/records`; only the sentences above each
table are written by hand. Intervals, p-values and corrections are explained in [bench.md](bench.md). Each table's
suite, with its settings, is in `benchmarks/suites`.
"""


def keep(folder: Path, record: Path) -> list[Path]:
    """Copy the small files of a suite's finished runs into a record, in place of older ones of the same runs."""
    kept, tree = list[Path](), json.loads((folder / CELLS).read_text())
    for cell in tree["cells"]:
        source, target = folder / cell["folder"], record / cell["folder"]
        shutil.rmtree(target, ignore_errors=True)
        if (source / NOTE).is_file():
            target.mkdir(parents=True)
            kept += [target / file for file in KEPT if (source / file).is_file()]
    (record / CELLS).write_text(json.dumps(tree, indent=1) + "\n")
    kept += [record / CHOICES] if (folder / CHOICES).is_file() else []
    for file in kept:
        text = shortened(folder / file.relative_to(record))
        file.write_text(text.replace(str(folder.resolve()), f"runs/bench-{record.name}"))
    return kept


def shortened(file: Path) -> str:
    """A file's text; JSON without the scores that no table shows, and on one line."""
    text = file.read_text()
    return json.dumps(without(json.loads(text))) + "\n" if file.suffix == ".json" else text


def without(tree: Any) -> Any:
    """A JSON tree without the scores that are left out."""
    if isinstance(tree, dict):
        return {key: without(value) for key, value in tree.items() if key not in LEFT_OUT}
    return [without(value) for value in tree] if isinstance(tree, list) else tree


def page() -> str:
    """The text of the page."""
    return "\n".join([INTRODUCTION, *(section(record) for record in sorted(RECORDS.iterdir()) if record.is_dir())])


def section(record: Path) -> str:
    """The heading, the note, the tables and the environment of one record."""
    about = record / "about.md"
    if not about.is_file():
        raise SystemExit(f"{record} has no about.md; write what it shows, the heading in its first line")
    heading, _, note = about.read_text().partition("\n")
    tables = BenchTables(read_bench(record))
    runs = [run for column in tables.files.columns for run in tables.runs(column).values()]
    text = re.sub("^## ", "### ", tables.markdown().strip(), flags=re.MULTILINE)
    return "\n".join([f"## {heading}", "", note.strip(), "", text, "", *hardware(runs), ""])


def brief(record: Path) -> str:
    """A record's first table as the README shows it: the teacher, and one line a method that has all its seeds.

    While no method has them, nothing.
    """
    tables = BenchTables(read_bench(record))
    column = tables.files.columns[0]
    lines, whole = tables.lines(column), tables.pair_table(column)
    score, over = whole.columns[2], f"over {tables.files.control}"
    wanted = ["method", score, over, "its interval", "p (Holm)", "published", "parameters", "minutes"]
    rows, finished = [], False
    # Methods without any finished run stand behind the lines.
    for line, entries in zip(lines, whole.rows[: len(lines)], strict=True):
        row = dict(zip(whole.columns, entries, strict=True))
        row[score] += f" ± {row['deviation']}" if row.get("deviation") else ""
        if line.kind != "other" and row["n"].isdecimal():
            rows.append([row[name] for name in wanted if name in row])
            finished |= line.kind == "method"
    return Table("", [name for name in wanted if name in whole.columns], rows).markdown() if finished else ""


def picture(record: Path, file: Path) -> None:
    """Each method's measure against the minutes of its training, with 95 % intervals; what is published as lines."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = record.name  # the same bytes each time
    from matplotlib import pyplot

    tables = BenchTables(read_bench(record))
    column = tables.files.columns[0]
    figure, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    for line in tables.lines(column):
        if line.kind != "method" or len(tables.by_seed(line.of, column)) < len(tables.files.seeds):
            continue
        minutes = fmean(tables.files.seconds(line.of, column)) / 60
        mean, (low, high), name = fmean(line.network.values), line.network.range, line.label.split()[0]
        axes.errorbar(minutes, mean, [[mean - low], [high - mean]], fmt="o", color="#c2571a", capsize=3)
        axes.annotate(name, (minutes, mean), (8, -3), textcoords="offset points", fontsize=9)
        if found := tables.published(line, column):
            axes.axhline(found[0], color="#9aa0a6", linestyle=":")
            axes.annotate(
                f"{name}, 240 epochs, published", (0.5, found[0]), (0, 3), textcoords="offset points", fontsize=8
            )
    axes.set_xlim(0, 1.3 * axes.get_xlim()[1])
    axes.set_xlabel("minutes of one training on one core")
    axes.set_ylabel(tables.pair_table(column).columns[2])
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, metadata={"Date": None})


def hardware(runs: list[RunFiles]) -> Iterator[str]:
    """One line for each environment in which runs of a suite were made."""
    found = {
        f"Measured on {one['processor']}, {one['gpu'] or 'no GPU'}, {one['threads']} thread(s) a run; Python "
        f"{one['python']}, torch {one['torch']}, attar {one['attar']}."
        for one in (run.environment for run in runs)
        if one
    }
    yield from sorted(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    keeping = commands.add_parser("keep", help="copy a suite's small files into benchmarks/records")
    keeping.add_argument("folder", type=Path)
    keeping.add_argument("name")
    commands.add_parser("page", help="write docs/results.md and its pictures")
    commands.add_parser("brief", help="print the table that the README shows").add_argument("name")
    options = parser.parse_args()
    if options.command == "brief":
        print(brief(RECORDS / options.name))
        return
    if options.command == "keep":
        record = RECORDS / options.name
        print(f"{len(keep(options.folder, record))} files in {record}")
    PAGE.write_text(page())
    for name, file in PICTURES.items():
        picture(RECORDS / name, file)


if __name__ == "__main__":
    main()
