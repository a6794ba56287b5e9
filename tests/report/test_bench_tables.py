"""The tables and the page of a suite, from folders as it leaves them."""

import csv
import io
import json
import re
import shutil
from dataclasses import replace
from math import inf, nan
from statistics import fmean

import pytest
from scipy import stats

from attar.errors import AttarError
from attar.metrics import Measure, Scoring, holm, paired_gap
from attar.recipe import read_recipe, to_yaml
from attar.report.bench_files import read_bench
from attar.report.bench_page import bench_page
from attar.report.bench_tables import BenchTables
from attar.report.rank_chart import groups
from made_runs import MadeRun

ROWS, COLUMNS, SEEDS = ("supervised", "kd", "dkd beta=2"), ("a -> b", "c -> d"), (3, 7, 8)


READ = {}  # the runs that are read already: no test changes them


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a suite with all its runs."""
    folder = tmp_path_factory.mktemp("suite") / "bench"
    for number, (column, row, seed) in enumerate((c, r, s) for c in COLUMNS for r in ROWS for s in SEEDS):
        make(folder / place(column, row, seed), number, row, seed)
    return folder


def make(folder, number, row, seed, **keys):
    MadeRun(folder, seed=seed, alone=False, random=number, method=row.split()[0], **keys)
    note = {"seconds": 60.0 * (number + 1), "failed": "", "begun": None}
    (folder / "cell.json").write_text(json.dumps(note))


def place(column, row, seed):
    return f"{column[0]}/{row.split()[0]}/seed{seed}"


def listed(folder, columns=COLUMNS[:1], rows=ROWS, seeds=SEEDS, literature=False):
    """Write which cells a suite has."""
    cells = [
        {"row": row, "column": column, "seed": seed, "folder": place(column, row, seed)}
        for column in columns for row in rows for seed in seeds
    ]  # fmt: skip
    tree = {"control": rows[0], "literature": literature, "cells": cells}
    (folder / "cells.json").write_text(json.dumps(tree))
    return folder


@pytest.fixture
def tables(made):
    """The tables of the suite, or of a part of it."""
    return lambda *columns, **keys: BenchTables(read_bench(listed(made, columns or COLUMNS[:1], **keys), READ))


@pytest.fixture
def copied(made, tmp_path):
    """A suite of three methods and three seeds on one pair, to be damaged."""
    shutil.copytree(made / "a", tmp_path / "bench" / "a")
    return listed(tmp_path / "bench")


def scores(folder, column, row):
    files = [folder / place(column, row, seed) / "results.json" for seed in SEEDS]
    return [100 * json.loads(file.read_text())["runs"][0]["student"]["scores"]["top1"] for file in files]


def entries(table, row):
    return dict(zip(table.columns, next(line for line in table.rows if line[0] == row), strict=True))


def test_an_entry_has_its_mean_interval_and_the_paired_difference_from_the_control(made, tables):
    table = tables().pair_table("a -> b")
    assert table.title == "a -> b: top-1 %, cifar100 (120 test images)"
    base, own, other = (scores(made, "a", row) for row in ROWS)
    found = entries(table, "kd")
    assert found["n"] == "3"
    assert found["top-1 %"] == f"{fmean(own):.2f}"
    low, high = stats.t.interval(0.95, 2, fmean(own), stats.sem(own))
    assert found["95 % interval"] == f"{low:.2f} to {min(high, 100):.2f}"
    test = stats.ttest_rel(own, base)
    assert found["over supervised"] == f"{fmean(own) - fmean(base):+.2f}"
    low, high = test.confidence_interval(0.95)
    assert found["its interval"] == f"{low:+.2f} to {high:+.2f}"
    assert found["p"] == f"{test.pvalue:.3f}"
    corrected = holm([test.pvalue, stats.ttest_rel(other, base).pvalue])
    assert [entries(table, row)["p (Holm)"] for row in ROWS[1:]] == [f"{p:.3f}" for p in corrected]
    assert entries(table, "supervised")["p"] == ""
    assert found["minutes"] == "5.0"  # 4, 5 and 6
    assert found["parameters"] == "278,324"
    assert {"NLL", "ECE %", "agrees %"} <= set(table.columns)


def test_the_correction_covers_all_pairs(tables):
    found = tables(*COLUMNS)
    raw = [found.gap(row, column).p for column in COLUMNS for row in ROWS[1:]]
    assert list(found.corrected.values()) == pytest.approx(holm(raw))


def test_a_pair_has_its_teachers_row(tables):
    row = tables().pair_table("a -> b").rows[0]
    assert row[:2] == ["resnet56 (teacher)", "1"]  # one set of weights, however many students


def test_failed_and_waiting_runs_are_visible_everywhere(copied):
    shutil.rmtree(copied / "a/dkd")
    (copied / "a/kd/seed7/results.json").unlink()
    (copied / "a/kd/seed7/cell.json").write_text('{"seconds": 1.0, "failed": "the loss is nan", "begun": null}')
    tables = BenchTables(read_bench(copied))
    table = tables.pair_table("a -> b")
    assert entries(table, "kd")["n"] == "2 of 3, 1 failed"
    assert entries(table, "dkd beta=2")["n"] == "0 of 3"
    assert entries(table, "kd")["over supervised"]  # of the seeds that both have
    base, own = tables.by_seed("supervised", "a -> b"), tables.by_seed("kd", "a -> b")
    assert tables.gap("kd", "a -> b") == paired_gap([own[3], own[8]], [base[3], base[8]])
    line = "Failed: kd, a -> b, seed 7: the loss is nan"
    assert line in tables.notes()
    assert "3 of 9 runs are not done yet." in tables.notes()
    assert line in tables.markdown()
    assert "the loss is nan" in bench_page(tables)
    states = [row["state"] for row in csv.DictReader(io.StringIO(tables.csv()))]
    assert states == ["done"] * 4 + ["failed", "done"] + ["waiting"] * 3


def test_a_damaged_run_is_a_failed_one(copied):
    (copied / "a/kd/seed7/results.json").write_text("{")
    tables = BenchTables(read_bench(listed(copied, rows=ROWS[:2])))
    assert entries(tables.pair_table("a -> b"), "kd")["n"] == "2 of 3, 1 failed"


def test_several_pairs_have_an_overview_with_average_ranks(made, tables):
    found = tables(*COLUMNS)
    overview = found.overview()
    assert overview.columns == ["method", *COLUMNS, "average rank"]
    means = {column: [fmean(scores(made, column, row)) for row in ROWS] for column in COLUMNS}
    ranks = [stats.rankdata([-mean for mean in means[column]]) for column in COLUMNS]
    assert [row[-1] for row in overview.rows] == [f"{fmean(pair):.2f}" for pair in zip(*ranks, strict=True)]
    page = bench_page(found)
    assert "critical difference" in page
    assert page.count("<h2>") == 4  # all pairs, each pair, how to read
    assert "http" not in page
    assert "<script" not in page


def test_published_numbers_stand_beside_ours_with_their_sources(tables):
    whole = tables(literature=True)
    table = whole.pair_table("a -> b")
    found = entries(table, "kd")
    assert found["published"] == "70.66"
    assert float(found["over it"]) == pytest.approx(float(found["top-1 %"]) - 70.66, abs=0.011)
    assert entries(table, "supervised")["published"] == "69.06"
    assert entries(table, "resnet56 (teacher)")["published"] == "72.34"
    note = whole.notes()[-1]
    assert note.startswith("Published: CIFAR-100 top-1, the last or the best of 240 to 960 epochs")
    assert "kd: README of RepDistiller" in note or "supervised, kd: README of RepDistiller" in note


def test_the_end_of_a_chain_has_no_published_number(tmp_path):
    """Its teacher was distilled itself; papers' was trained."""
    column = "resnet110 -> resnet56 -> resnet20"
    make(tmp_path / place(column, "kd", 3), 0, "kd", 3)
    tables = BenchTables(read_bench(listed(tmp_path, columns=[column], rows=["kd"], seeds=[3], literature=True)))
    assert "70.66" not in tables.pair_table(column).markdown()
    assert "72.34" not in tables.pair_table(column).markdown()


def test_a_difference_that_is_the_same_in_all_seeds_is_not_tested(tables, monkeypatch):
    found = tables()
    alike = paired_gap([2.0, 3.0, 4.0], [1.0, 2.0, 3.0])
    monkeypatch.setattr(BenchTables, "gap", lambda self, row, column: alike if row == "kd" else None)
    entry = entries(found.pair_table("a -> b"), "kd")
    assert entry["over supervised"] == "+1.00"
    assert "p" not in entry
    assert "A difference that is the same in all seeds has no interval and no p: it cannot be tested." in found.notes()


def test_without_published_numbers_there_is_a_line(tmp_path):
    make(tmp_path / place("a -> b", "kd", 3), 0, "kd", 3, data={"name": "cifar10"})
    tables = BenchTables(read_bench(listed(tmp_path, rows=["kd"], seeds=[3], literature=True)))
    assert "published" not in tables.pair_table("a -> b").columns
    assert "Nothing is published about these pairs and data." in tables.notes()


def test_one_seed_has_no_columns_of_intervals(tables):
    table = tables(seeds=(3,)).pair_table("a -> b")
    assert not {"deviation", "p", "p (Holm)", "its interval"} & set(table.columns)


def test_the_csv_has_every_score_as_it_was_measured(made, tables):
    rows = list(csv.DictReader(io.StringIO(tables().csv())))
    assert len(rows) == 9
    result = json.loads((made / "a/kd/seed7/results.json").read_text())["runs"][0]["student"]
    (row,) = [row for row in rows if (row["row"], row["seed"]) == ("kd", "7")]
    assert float(row["top1"]) == result["scores"]["top1"]
    assert float(row["nll"]) == result["scores"]["nll"]
    assert float(row["seconds"]) == 300.0
    assert row["folder"] == "a/kd/seed7"


def test_latex_has_a_line_a_row_and_no_bare_sign(tables):
    text = tables().latex()
    body = text.partition("\\midrule\n")[2].partition("\n\\bottomrule")[0].splitlines()
    assert len(body) == 4
    assert all(line.endswith(" \\\\") for line in body)
    assert not re.search(r"(?<!\\)[%#_]", "".join(line for line in text.splitlines() if not line.startswith("%")))


def test_a_terminal_of_80_columns_has_room_for_the_short_table(tables):
    (table,) = tables().short_tables()
    assert table.columns == ["method", "n", "top-1 %", "deviation", "over supervised", "p (Holm)", "minutes"]


def test_compare_pools_a_suite(copied, attar, tmp_path):
    status, out, _ = attar("compare", "bench", "out=all.html")
    assert status == 0
    lines = [line.split() for line in out.splitlines()]
    assert [line[:2] for line in lines if line[:1] in (["supervised"], ["kd"], ["dkd"])][:3] == [
        ["supervised", "3"], ["kd", "3"], ["dkd", "3"],
    ]  # fmt: skip
    own, base = scores(copied, "a", "kd"), scores(copied, "a", "supervised")
    assert f"{fmean(own) - fmean(base):+.2f}" in out
    assert "3, 7, 8" in out
    assert "Differences" in (tmp_path / "all.html").read_text()


def test_report_writes_a_suite_again(copied, attar):
    status, out, _ = attar("report", "bench")
    assert (status, out) == (0, "Report: bench/report.html\n")
    assert {"table.md", "table.tex", "runs.csv", "report.html"} <= {file.name for file in copied.iterdir()}


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"control": "kd", "literature": false, "cells": [{"row": 1}]}', '{"cells": 5}']
)
def test_a_damaged_list_of_cells_is_one_line(tmp_path, text):
    (tmp_path / "cells.json").write_text(text)
    with pytest.raises(AttarError, match=r"cannot read .*cells\.json \(.*run attar bench again"):
        read_bench(tmp_path)


def test_a_cell_outside_the_suite_is_refused(tmp_path):
    folder, file = listed(tmp_path, seeds=(3,)), tmp_path / "cells.json"
    file.write_text(file.read_text().replace('"a/kd/seed3"', '"../elsewhere"'))
    with pytest.raises(AttarError, match="lies outside"):
        read_bench(folder)


def test_bars_of_the_rank_chart_join_what_is_not_told_apart():
    assert groups([1.0, 2.0, 3.0], 0.5) == []
    assert groups([1.0, 1.2, 1.4], 0.5) == [(0, 2)]
    assert groups([1.0, 1.4, 1.8, 3.0], 0.5) == [(0, 1), (1, 2)]


PERPLEXITY = Measure("perplexity", "perplexity", 1, 3)


def score_with(measure, folder, value):
    """Give the student of a made run another primary measure, a teacher's is 1."""
    file = folder / "results.json"
    tree = json.loads(file.read_text())
    tree["scoring"] = Scoring((measure,), "sequence").to_json()
    for entry in [*tree["teachers"], *tree["runs"][0].values()]:
        entry["scores"] = {"count": 120, measure.name: value if entry["name"] == "student" else 1.0}
    file.write_text(json.dumps(tree))


@pytest.fixture
def perplexities(made, tmp_path):
    """The tables of a suite of two pairs with the given perplexities: {(row, column, seed): value}."""

    def build(values):
        shutil.copytree(made, tmp_path / "bench")
        folder = listed(tmp_path / "bench", COLUMNS)
        for (row, column, seed), value in values.items():
            where = folder / place(column, row, seed)
            if value is None:
                (where / "results.json").unlink()
            else:
                score_with(PERPLEXITY, where, value)
        return BenchTables(read_bench(folder))

    return build


def steady(**changes):
    """Perplexities of each row in order; `kd_a_7` changes that of kd on the first pair with seed 7."""
    found = {
        (row, column, seed): 5.0 + number + 0.1 * seed + 0.01 * number * seed**2
        for number, row in enumerate(ROWS) for column in COLUMNS for seed in SEEDS
    }  # fmt: skip
    for name, value in changes.items():
        row, column, seed = name.split("_")
        found[row, next(one for one in COLUMNS if one[0] == column), int(seed)] = value
    return found


@pytest.mark.parametrize("value", [inf, nan])
def test_a_score_that_is_no_number_is_shown_and_changes_no_other_line(perplexities, value):
    found = perplexities(steady(kd_a_7=value))
    table = found.pair_table("a -> b")
    assert entries(table, "kd")["perplexity"] == str(value)
    assert {entries(table, "kd")[key] for key in ("deviation", "95 % interval", "over supervised", "p")} == {""}
    pairs = [(row, column) for column in COLUMNS for row in ROWS[1:] if (row, column) != ("kd", "a -> b")]
    assert list(found.corrected) == pairs
    assert list(found.corrected.values()) == pytest.approx(holm([found.gap(*pair).p for pair in pairs]))
    assert found.ranks()[1].ranks == (1.0, 2.5, 2.5)  # the worst of its pair
    assert "a -&gt; b: the lowest mean perplexity is 5.600, of supervised" in bench_page(found)


def test_ranks_compare_means_over_the_same_seeds(perplexities):
    """Where the easiest seed of the best row is missing, its mean over the others would be the worse one."""
    values = {key: key[2] + (1.0 if key[0] == "kd" else 0.0) for key in steady()}
    found = perplexities({**values, ("supervised", "a -> b", 3): None})
    assert fmean(found.by_seed("supervised", "a -> b").values()) > fmean(found.by_seed("kd", "a -> b").values())
    assert found.ranks()[1].ranks == (1.5, 3.0, 1.5)


def test_teachers_that_a_method_trains_otherwise_have_a_line_of_their_own(copied):
    for row, label in zip(ROWS, ("teacher_resnet56", "teacher_resnet56", "teacher_resnet56_2"), strict=True):
        for seed in SEEDS:
            recipe = copied / place("a", row, seed) / "recipe.yaml"
            weights = copied / "teachers" / label / f"seed{seed}" / "student.safetensors"
            run = read_recipe(recipe)
            recipe.write_text(to_yaml(replace(run, teacher=replace(run.teacher, weights=str(weights)))))
    table = BenchTables(read_bench(copied)).pair_table("a -> b")
    assert [row[:2] for row in table.rows[:2]] == [
        ["resnet56 (teacher) of supervised, kd", "3"],
        ["resnet56 (teacher) of dkd beta=2", "3"],
    ]


def test_teachers_that_were_trained_again_have_a_line_of_their_own(copied):
    for row in ROWS:
        for seed in SEEDS:
            record = {"weights of teacher": f"{row == ROWS[2]}", "training images": f"{row}"}
            (copied / place("a", row, seed) / "inputs.json").write_text(json.dumps(record))
    table = BenchTables(read_bench(copied)).pair_table("a -> b")
    assert [row[:2] for row in table.rows[:2]] == [
        ["resnet56 (teacher) of supervised, kd", "1"],
        ["resnet56 (teacher) of dkd beta=2", "1"],
    ]


def test_what_is_published_stands_beside_top1_of_the_same_networks_only(copied):
    tables = BenchTables(read_bench(listed(copied, literature=True)))
    (line,) = [line for line in tables.lines("a -> b") if line.label == "kd"]
    assert tables.published(line, "a -> b")
    neighbours = Measure("knn", "kNN %", 100, 2, higher=True, share=True)
    assert tables.published(replace(line, network=replace(line.network, measure=neighbours)), "a -> b") is None
    recipe = tables.runs("a -> b")["kd"].recipe
    recipe.student.options["width"] = 2
    assert tables.published(line, "a -> b") is None
