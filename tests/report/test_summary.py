"""Tables, the headline and the page."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from attar.experiments.training import Result
from attar.metrics import ClassificationMetrics
from attar.profiling import Cost
from attar.recipe import read_recipe
from attar.report.run_files import read_run
from attar.report.summary import Summary, one_class, size, spread
from attar.report.tables import Table

SCORES = {
    **{"count": 200, "top1": 0.5, "top5": 0.9, "nll": 1.25, "ece": 0.05, "brier": 0.6, "per_class": [0.5, None]},
    **{"agreement": 0.75, "kl": 0.1},
}
SCORING = ClassificationMetrics().scoring
COST = Cost(1000, 2_500_000, 0.5, 0.1, 4000)


def result(top1, parameters=1000, name="student"):
    return Result(name, {**SCORES, "top1": top1}, replace(COST, parameters=parameters))


def summary(runs, teachers=("resnet56",), method="kd"):
    recipe = read_recipe(teacher=",".join(teachers), student="resnet8", method=method, seeds=len(runs))
    return Summary(recipe, [result(0.9, 10_500, "teacher") for _ in teachers], runs, Path("out"), SCORING)


@pytest.fixture
def three_seeds():
    return [{"alone": result(a), "student": result(b)} for a, b in ((0.50, 0.52), (0.51, 0.55), (0.49, 0.52))]


def test_one_seed_has_no_interval():
    one = summary([{"alone": result(0.5), "student": result(0.525)}])
    assert one.sentence() == (
        "The student is 10.5 times smaller than its teacher and as fast. "
        "Distilled - alone: +2.50 points (1 seed, so no interval). Distilled - teacher: -37.50 points."
    )


def test_a_student_of_the_same_size_is_as_large_and_a_slower_one_is_called_slower():
    alike = [{"student": Result("student", SCORES, replace(COST, parameters=10_500, latency_ms=1.5))}]
    assert summary(alike).sentence().startswith("The student is as large as its teacher and 3.0 times slower. ")


def test_the_interval_is_of_the_images_for_one_run_and_of_the_seeds_for_several(three_seeds):
    one = summary(three_seeds[:1]).networks()[-1]
    assert one.bounds == pytest.approx((45.11, 58.82), abs=0.01)  # Wilson's, 104 of 200
    assert summary(three_seeds).networks()[-1].bounds == pytest.approx((53 - 4.303, 53 + 4.303), abs=0.01)


def test_seeds_are_paired(three_seeds):
    three = summary(three_seeds)
    # Differences 2, 4, 3: mean 3, deviation 1, t(2, .975) = 4.3027, half width 4.3027 / sqrt(3).
    assert three.gap.mean == pytest.approx(3.0)
    assert three.gap.half_width == pytest.approx(2.4841, abs=1e-3)
    assert "+3.00 points (95 % interval +0.52 to +5.48, paired over 3 seeds, p = 0.035)" in three.sentence()


def test_rows_of_the_score_table(three_seeds):
    table = summary(three_seeds).score_table()
    assert [row[:2] for row in table.rows] == [
        ["resnet56 (teacher)", "90.00"],
        ["resnet8 alone", "50.00 ± 1.00"],
        ["resnet8 with kd", "53.00 ± 1.73"],
    ]
    assert table.title == "Test set (200 images, mean ± std of 3 seeds)"
    assert table.rows[0][2:] == ["90.0", "1.250", "5.0", "75.0"]


def test_teachers_of_one_architecture_keep_a_row_each():
    rows = summary([{"student": result(0.5)}], teachers=("resnet20", "resnet20")).rows()
    assert list(rows) == ["resnet20 (teacher 1)", "resnet20 (teacher 2)", "resnet8 with kd"]


def test_plain_training_has_neither_teacher_nor_gap():
    plain = summary([{"student": result(0.5)}], teachers=(), method="supervised")
    assert plain.sentence() == ""
    assert plain.gap is None
    assert [row[0] for row in plain.score_table().rows] == ["resnet8 trained"]


def test_cost_table(three_seeds):
    assert summary(three_seeds).cost_table().rows[0] == [
        "resnet56 (teacher)",
        "10,500",
        "2.50 M",
        "0.50 (0.10)",
        "4 kB",
    ]


def test_student_file_is_the_first_seeds(three_seeds):
    assert summary(three_seeds).student == Path("out/seed0/student.safetensors")
    assert summary(three_seeds[:1]).student == Path("out/student.safetensors")


def test_results_survive_json(three_seeds):
    tree = json.loads(json.dumps(summary(three_seeds).to_json()))
    again = Result.from_json(tree["runs"][1]["student"])
    assert again.scores["top1"] == 0.55
    assert again.cost == COST


def test_numbers_as_text():
    assert (spread([1.0], 2), spread([1.0, 2.0, 3.0], 1)) == ("1.00", "2.0 ± 1.0")
    assert (size(999), size(1500), size(2_340_000)) == ("1 kB", "2 kB", "2.34 MB")


def test_csv_quotes_what_must_be():
    assert Table("t", ["", "x"], [['a, "b"', "1"]]).csv() == ',x\n"a, ""b""",1\n'


def test_a_student_that_is_worse_than_alone_gets_a_hint():
    worse = summary([{"alone": result(0.52), "student": result(0.45)}])
    assert worse.hints() == [
        "Distilling made the student worse: train longer (epochs=), try another temperature (method.temperature=) or "
        "another method (attar methods)."
    ]
    assert summary([{"alone": result(0.45), "student": result(0.52)}]).hints() == []


def test_a_loss_within_the_spread_of_the_seeds_is_none_to_be_sure_of():
    runs = [(0.52, 0.45), (0.46, 0.51), (0.50, 0.49)]
    unsure = summary([{"alone": result(alone), "student": result(student)} for alone, student in runs])
    assert unsure.gap.mean < 0 < unsure.gap.mean + unsure.gap.half_width
    assert [line.split(":")[0] for line in unsure.hints()] == ["Distilling did not help"]


@pytest.mark.parametrize(
    ("per_class", "line"),
    [
        ((0.0, 1.0, 0.0), "gives class 1 (of 0 to 2) to nearly everything"),
        ((0.01, 0.02, 0.97, None), "gives class 2 (of 0 to 3) to nearly everything"),
        ((0.95, 0.01), "gives class 0 (of 0 to 1) to nearly everything"),
        ((0.0, 0.0, 0.0), "gets nothing right"),
        ((0.9, 0.2, 0.1), ""),
        ((0.4, 0.3), ""),
        ((*[0.0] * 1980, *[0.8] * 19, 1.0), ""),  # 0.8 per cent in all, which many classes share
        ((), ""),
    ],
)
def test_a_student_that_gives_one_class_to_everything_gets_a_line(per_class, line):
    assert one_class(per_class) == line
    one = result(0.3)
    hints = summary([{"student": replace(one, scores={**one.scores, "per_class": per_class})}]).hints()
    assert hints == ([f"resnet8 with kd: {line}"] if line else [])


def test_a_notebook_shows_the_tables_and_the_sentence(made_run):
    shown = read_run(made_run().folder).summary._repr_html_()
    assert shown.count("<table>") == 2
    assert "resnet20 with kd" in shown
    assert "Distilled" in shown
