"""`attar bench`, `attar search` and `attar check` from the command line: what they print and where their files are."""

from types import SimpleNamespace

import pytest

from attar.experiments import student_halving

SUITE = """
methods: [supervised]
pairs: [{student: resnet8}]
seeds: 1
recipe: {data: {name: digits, train_size: 20}, epochs: 1, batch_size: 20, precision: float32}
"""


@pytest.fixture
def suite(tmp_path):
    file = tmp_path / "suite.yaml"
    file.write_text(SUITE)
    return file


def test_a_suite_prints_its_table_and_where_the_report_is(attar, suite):
    status, out, err = attar("bench", suite, "out=out", "jobs=1")
    assert (status, err) == (0, "")
    assert "supervised" in out
    assert (suite.parent / "out" / "report.html").exists()
    assert "Report: out/report.html" in out


def test_a_part_beyond_the_last_is_refused(attar, suite):
    status, _, err = attar("bench", suite, "out=out", "share=5/4")
    assert status == 2
    assert "share" in err.splitlines()[-1]
    assert not (suite.parent / "out").exists()


@pytest.mark.parametrize("key", ["within=two", "candidates=few"])
def test_a_goal_that_is_no_number_is_one_line(attar, key):
    status, _, err = attar("search", "teacher=resnet14", "data=digits", key)
    assert status == 2
    assert err.splitlines()[-1] == f"attar: {key}: expected a number"


@pytest.mark.parametrize("holds", [True, False])
def test_a_search_says_what_it_found_and_fails_where_no_student_is_good_enough(attar, monkeypatch, holds):
    asked = []

    def search(recipe, goal, console, keys):
        asked.append((recipe.method.name, goal.within, dict(goal.budget), "method.name" in keys, "epochs" in keys))
        winner = SimpleNamespace(
            score_table=lambda: "scores", hints=lambda: ["a hint"], student="out/student.safetensors"
        )
        return SimpleNamespace(
            table=lambda: "candidates", winner=winner, sentence=lambda: "resnet8 it is", report="out/r", holds=holds
        )

    monkeypatch.setattr(student_halving, "search_students", search)
    status, out, _ = attar("search", "teacher=resnet14", "data=digits", "method=kd", "within=2", "latency=5ms")
    assert status == (0 if holds else 1)
    assert asked == [("kd", 2.0, {"latency": "5ms"}, True, False)]
    assert out.split("\n")[:6] == [
        "candidates", "scores", "resnet8 it is", "a hint", "Report: out/r", "Student: out/student.safetensors"
    ]  # fmt: skip


def test_a_data_set_is_looked_at(attar, tmp_path):
    status, out, _ = attar("check", "data=digits", "--sheet", "sheet.png")
    assert status == 0
    assert "898" in out
    assert "Contact sheet: sheet.png" in out
    assert (tmp_path / "sheet.png").stat().st_size > 0
