"""Runs side by side: the table, the paired differences, and what may not be compared."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest

import attar
from attar.errors import AttarError
from attar.metrics import paired_gap
from attar.metrics.predictions import load_predictions, save_predictions


def tops(made):
    return [100 * run["student"]["scores"]["top1"] for run in made.runs]


@pytest.fixture
def compared(tmp_path):
    """Compares made runs; the files go into the test's folder."""

    def run(*made):
        return attar.compare(*[one.folder for one in made], out=tmp_path / "out" / "compare.html")

    return run


def test_the_table_and_the_files(made_run, compared):
    made = [made_run("kd", seeds=3), made_run("dkd", method="dkd", random=1)]
    found = compared(*made)
    first, second = found.table().rows
    assert first[:4] == ["kd", "kd", "resnet56", "resnet20"]
    assert (first[4], second[4]) == ("3", "1")  # seeds
    assert first[5] == f"{np.mean(tops(made[0])):.2f} ± {np.std(tops(made[0]), ddof=1):.2f}"
    assert second[1] == "dkd"
    assert second[5] == f"{tops(made[1])[0]:.2f}"
    assert second[found.table().columns.index("NLL")] == f"{made[1].runs[0]['student']['scores']['nll']:.3f}"
    assert found.table().title == "cifar100 (120 test images)"
    with found.report.with_suffix(".csv").open() as file:
        assert list(csv.reader(file)) == [found.table().columns, *found.table().rows]
    assert found.report.with_suffix(".md").read_text().startswith("## cifar100 (120 test images)\n\n| run | method |")
    text = found.report.read_text()
    assert first[5] in text
    assert "<script" not in text
    assert "http" not in text


def test_differences_are_paired_over_the_seeds_that_both_have(made_run, compared):
    base, other = made_run("base", seeds=4), made_run("other", seeds=3, seed=2, random=5)
    (name, seeds, gap), *rest = compared(base, other).gaps()
    assert (name, seeds, rest) == ("other", [2, 3], [])
    assert gap == paired_gap(tops(other)[:2], tops(base)[2:])
    assert gap.p is not None
    assert compared(other, base).gaps() == [("base", [2, 3], paired_gap(tops(base)[2:], tops(other)[:2]))]


def test_runs_without_a_common_seed_have_no_difference(made_run, compared):
    found = compared(made_run("base"), made_run("other", seed=7))
    assert found.gaps() == []
    assert "paired" not in found.markdown()
    assert "Differences" not in found.report.read_text()


def test_teachers_are_drawn_once(made_run, compared):
    made = [made_run(name) for name in ("a", "b")]  # the same seed of numbers: the same teacher
    chart = compared(*made).report.read_text().split("Top-1 against latency</title>")[1].split("</svg>")[0]
    assert chart.count('class="dot teacher"') == 1
    assert chart.count('class="dot hue') == 2


def test_runs_of_one_name_are_told_apart(made_run, compared):
    assert compared(made_run("a/seed0"), made_run("b/seed0")).names == ("a/seed0", "b/seed0")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"name": "cifar10"}}, "data 'cifar100' and 'cifar10'"),
        ({"names": [f"class {n}" for n in range(9)] + ["other"]}, "classes 'class 9' and 'other'"),
        ({"classes": 11}, "classes 10 and 11 of them"),
    ],
)
def test_different_test_sets_are_refused(made_run, compared, tmp_path, changes, message):
    with pytest.raises(AttarError, match="have different test sets: " + message):
        compared(made_run("one"), made_run("other", **changes))
    assert not (tmp_path / "out").exists()


def test_a_folder_is_the_same_data_however_it_was_given(made_run, compared):
    found = compared(
        made_run("one", data={"name": "folder", "root": "data/photos"}), made_run("other", data={"name": "photos/"})
    )
    assert found.table().title.startswith("photos (")


def test_records_of_runs_without_curves_have_no_section_of_them(made_run, compared):
    runs = [made_run("one"), made_run("other")]
    assert "How they learnt" in compared(*runs).report.read_text()
    for run in runs:
        (run.folder / "metrics.jsonl").unlink()
    assert "How they learnt" not in compared(*runs).report.read_text()


def test_a_difference_that_is_no_number_is_left_out(made_run, compared, monkeypatch):
    found = compared(made_run("one"), made_run("other"))
    gap = replace(found.gaps()[0][2], mean=math.nan, half_width=None, p=None)
    monkeypatch.setattr(type(found), "gaps", lambda _: [("other", [0], gap)])
    assert found.gap_table().rows == [["other", "seed 0", "", "", ""]]


def test_different_images_are_refused_by_their_labels(made_run, compared):
    one, other = made_run("one"), made_run("other")
    file = other.folder / "predictions.npz"
    kept = load_predictions(file)
    save_predictions(type(kept)(np.roll(kept.labels, 1), kept.top, kept.confidence, kept.kl), file)
    with pytest.raises(AttarError, match="labels of their images differ"):
        compared(one, other)


@pytest.mark.parametrize(("count", "out", "message"), [(1, "c.html", "two or more"), (2, "c.txt", r"end in \.html")])
def test_what_cannot_be_compared(made_run, tmp_path, count, out, message):
    folders = [made_run(str(n)).folder for n in range(count)]
    with pytest.raises(AttarError, match=message):
        attar.compare(*folders, out=tmp_path / out)


def test_a_run_given_twice_is_refused(made_run, compared):
    made = made_run()
    with pytest.raises(AttarError, match="given twice"):
        compared(made, made)


def test_runs_in_different_precisions_are_named(made_run, compared):
    base, other = made_run("base"), made_run("other")
    line = "The runs computed in different precisions: base float32, other bfloat16."
    assert compared(base, other).hints() == []
    (other.folder / "environment.json").write_text('{"attar": "0.1.0", "runtime": {"precision": "bfloat16"}}')
    found = compared(base, other)
    assert found.hints() == [line]
    assert line in found.report.read_text()
