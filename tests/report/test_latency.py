"""Latencies are compared where they were steady, and nowhere else, by one rule for the terminal and the pages."""

import json
from pathlib import Path

import pytest

from attar.metrics import ClassificationMetrics
from attar.profiling import Latency
from attar.report import latency
from attar.report.evaluation import Evaluation
from attar.report.latency import speed, verdict
from attar.report.run_page import write_report


@pytest.mark.parametrize(
    ("teacher", "student", "expected"),
    [
        ((2.0, 0.1), (1.0, 0.1), "ratio"),
        ((1.0, 0.1), (2.0, 0.1), "ratio"),
        ((1.6, 0.7), (1.0, 0.5), "alike"),  # 1.25 to 1.95 against 0.75 to 1.25
        ((1.6, 0.68), (1.0, 0.5), "ratio"),
        ((1.04, 0.0), (1.0, 0.0), "alike"),
        ((352.0, 277.0), (220.0, 1.0), "unsteady"),
        ((220.0, 1.0), (352.0, 177.0), "unsteady"),
        ((220.0, 1.0), (352.0, 176.0), "ratio"),
        (None, (1.0, 0.0), "missing"),
    ],
)
def test_the_rule(teacher, student, expected):
    one, other = (None if pair is None else Latency(*pair) for pair in (teacher, student))
    assert verdict(one, other) == expected
    assert ("times" in speed(one, other)) == (expected == "ratio")


def page_of(made, **times):
    """The headline and the page of a run whose latencies are these: name=(median, spread)."""
    file = made.folder / "results.json"
    tree = json.loads(file.read_text())
    for name, (median, spread) in times.items():
        cost = (tree["teachers"][0] if name == "teacher" else tree["runs"][0][name])["cost"]
        cost |= {"latency_ms": median, "latency_spread_ms": spread}
    file.write_text(json.dumps(tree))
    return write_report(made.folder).read_text(encoding="utf-8")


def test_the_page_prints_a_ratio_only_where_the_spread_allows_one(made_run):
    made = made_run()
    steady = page_of(made, teacher=(3.0, 0.1), student=(1.5, 0.1))
    assert "2.0 times faster" in steady
    assert "2.0\u00d7" in steady
    wide = page_of(made, teacher=(352.0, 277.0), student=(220.0, 5.0))
    assert "times faster" not in wide
    assert "1.6\u00d7" not in wide
    assert "too unsteady to compare" in wide
    assert "Latencies varied too much for a ratio." in wide
    assert "352 (277)" in wide
    assert "as fast" in page_of(made, teacher=(3.0, 0.4), student=(2.8, 0.1))


def test_a_comparison_names_students_that_are_worse_or_give_one_class(made_run, attar):
    for name in ("one", "two"):
        made = made_run(name)
        tree = json.loads((made.folder / "results.json").read_text())
        tree["runs"][0]["alone"]["scores"]["top1"] = 0.99
        tree["runs"][0]["student"]["scores"]["per_class"] = [0.0, 1.0, *[0.0] * 8]
        (made.folder / "results.json").write_text(json.dumps(tree))
    status, out, err = attar("compare", "one", "two")
    assert status == 0, err
    lines = " ".join(out.split())
    assert "two: resnet20 with kd: gives class 1 (of 0 to 9) to nearly everything" in lines
    assert "one: Distilling made the student worse: train longer" in lines


def test_evaluating_a_network_that_gives_one_class_says_so(attar, monkeypatch):
    scores = {"count": 10, "top1": 0.1, "per_class": [0.0, 1.0, 0.0]}
    found = Evaluation("net", "pets", scores, ClassificationMetrics().scoring)
    monkeypatch.setattr("attar.experiments.evaluation.evaluate_network", lambda *_, **__: found)
    assert "It gives class 1 (of 0 to 2) to nearly everything." in attar("evaluate", "net.safetensors")[1]


def test_only_this_rule_makes_ratios_of_latencies():
    rooms = [
        file for room in ("report", "cli", "deploy") for file in Path(latency.__file__).parents[1].glob(f"{room}/*")
    ]
    dividing = [file.name for file in rooms if file.suffix == ".py" and "latency_ms /" in file.read_text()]
    assert dividing == []


def test_a_student_that_is_worse_than_alone_is_not_in_the_colour_of_a_gain(made_run):
    made = made_run()
    file = made.folder / "results.json"
    tree = json.loads(file.read_text())
    for alone, coloured in ((0.4, True), (0.8, False)):
        tree["runs"][0]["alone"]["scores"]["top1"] = alone
        tree["runs"][0]["student"]["scores"]["top1"] = 0.6
        file.write_text(json.dumps(tree))
        text = write_report(made.folder).read_text(encoding="utf-8").split("Can its confidence be believed?")[0]
        assert ('class="big main"' in text) is coloured
        assert ('<tr class="student">' in text) is coloured
        assert ("Distilling made the student worse: train longer" in text) is not coloured
    tree["runs"][0]["alone"]["scores"]["top1"] = 0.6
    file.write_text(json.dumps(tree))
    assert 'class="big main"' not in write_report(made.folder).read_text(encoding="utf-8")
    del tree["runs"][0]["alone"]
    file.write_text(json.dumps(tree))
    assert 'class="big main"' not in write_report(made.folder).read_text(encoding="utf-8")
