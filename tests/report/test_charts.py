"""Charts: well-formed, named, true to the numbers, and drawn from odd ones too."""

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from attar.report.axes import WIDTH, Axis, fitted
from attar.report.charts import POINTS, Dot, Line, bars, dot_plot, line_chart, reliability, scatter

DOTS = [Dot("<b>&", "teacher", 99.0, 98.0, 99.5, 10.0), Dot("alone", "alone", 90.0, 89.0, 91.0, 1.0)]
EMPTY = [(0, 0.0, 0.0)] * 15


def read(text):
    root = ElementTree.fromstring(text)
    assert root.find("title").text
    return root


@pytest.mark.parametrize(
    "text",
    [
        line_chart("a", [Line("<i>", "student", [1, 2, 3], [1.0, 0.1, 0.01])], "epoch", "loss"),
        line_chart("a", [Line("one", "student", [1], [2.0])], "epoch", "loss"),
        line_chart("a", [Line("nan", "student", [1, 2], [math.nan, math.inf])], "epoch", "loss"),
        line_chart("a", [Line("flat", "student", [1, 2], [0.0, 0.0])], "epoch", "loss"),
        line_chart("a", [], "epoch", "loss"),
        dot_plot("a", DOTS, "top-1 %", 2),
        dot_plot("a", [Dot("sure", "student", 100.0, 100.0, 100.0)], "top-1 %", 2),
        dot_plot("a", [*DOTS, Dot("inf", "student", math.inf, math.nan, math.nan, 1.0)], "perplexity", 2),
        dot_plot("a", [Dot("inf", "student", math.inf, math.nan, math.nan)], "perplexity", 2),
        scatter("a", [*DOTS, Dot("inf", "student", math.inf, math.nan, math.nan, 1.0)], "ms", "perplexity", 2),
        scatter("a", [Dot("inf", "student", math.inf, math.nan, math.nan)], "ms", "perplexity", 2),
        scatter("a", DOTS, "ms", "top-1 %", 2),
        scatter("a", DOTS[:1], "ms", "top-1 %", 2),
        bars("a", [("<b>", 1.0), ("none", 0.0), None, ("long" * 20, -2.0)], "points"),
        bars("a", [("none", 0.0)], "points"),
        bars("a", [], "points"),
        reliability("a", "student", [(3, 0.5, 0.4)] * 15),
        reliability("a", "student", EMPTY),
    ],
)
def test_every_chart_is_well_formed_and_within_its_frame(text):
    root = read(text)
    numbers = [float(number) for path in root.iter("path") for number in re.findall(r"[\d.]+", path.get("d"))]
    assert all(0 <= number <= max(WIDTH, float(root.get("height"))) for number in numbers)
    assert "nan" not in text.split("</title>", 1)[1].replace(">nan<", "")


def test_a_dot_stands_where_its_value_is():
    root = read(scatter("a", [Dot(str(y), "peer", y, y, y, 5.0 + y) for y in (0.0, 5.0, 10.0)], "ms", "", 2))
    places = [(float(dot.get("cx")), float(dot.get("cy"))) for dot in root.iter("circle")]
    assert places[1][0] - places[0][0] == pytest.approx(places[2][0] - places[1][0], abs=0.2)
    assert places[0][1] > places[1][1] > places[2][1]
    assert places[0][1] - places[1][1] == pytest.approx(places[1][1] - places[2][1], abs=0.2)


def test_labels_of_equal_points_do_not_cover_each_other():
    root = read(scatter("a", [Dot(f"run{n}", "peer", 90.0, 89.0, 91.0, 2.0) for n in range(6)], "ms", "", 2))
    heights = sorted(float(text.get("y")) for text in root.iter("text") if (text.text or "").startswith("run"))
    assert min(b - a for a, b in pairwise(heights)) >= 13


def test_a_name_that_had_to_move_is_led_to_by_a_line():
    root = read(scatter("a", [Dot(f"run{n}", "peer", 90.0, 89.0, 91.0, 2.0) for n in range(4)], "ms", "", 2))
    (dot, *_) = root.iter("circle")
    heights = [float(text.get("y")) for text in root.iter("text") if (text.text or "").startswith("run")]
    lines = [path.get("d") for path in root.iter("path") if (path.get("class") or "").startswith("leader")]
    assert len(lines) == sum(abs(height - 4 - float(dot.get("cy"))) > 13 for height in heights) > 0
    assert all(line.startswith(f"M{dot.get('cx')} {dot.get('cy')}L") for line in lines)


def test_no_label_covers_another_point():
    dots = [
        Dot(f"resnet{n} (teacher)", "teacher", 90.0, 89.0, 91.0, ms)
        for n, ms in ((20, 15), (44, 26), (56, 31), (32, 42))
    ]
    root = read(scatter("a", dots, "ms", "", 2))
    points = [(float(dot.get("cx")), float(dot.get("cy"))) for dot in root.iter("circle")]
    for label in (label for label in root.iter("text") if "teacher" in (label.text or "")):
        wide, y = 6.8 * len(label.text), float(label.get("y"))
        left = float(label.get("x")) - (wide if label.get("text-anchor") == "end" else 0)
        assert not [
            x for x, at in points if left < x + 5 and x - 5 < left + wide and y - 10 < at + 5 and at - 5 < y + 3
        ]


def test_no_label_covers_the_numbers_of_the_axis():
    names = ["wrn_16_1", "resnet20", "resnet14", "torchvision/shufflenet_v2_x0_5", "efficientnet_lite0"]
    values = [(0.711, 33.0), (1.11, 24.5), (0.713, 23.5), (1.47, 20.0), (13.73, 97.0)]
    places = dict(zip(names, values, strict=True))
    root = read(scatter("a", [Dot(name, "peer", y, y, y, x) for name, (x, y) in places.items()], "ms", "", 2))
    for label in (label for label in root.iter("text") if label.text in places):
        wide = 6.8 * len(label.text) if label.get("text-anchor") == "end" else 0
        assert float(label.get("x")) - wide >= 40


def test_values_have_the_digits_of_their_measure():
    svg = dot_plot("a", [Dot("kd", "student", -0.0071, -0.0304, 0.0162)], "NLL", 3, signed=True)
    assert "kd: -0.007 (95 % interval -0.030 to 0.016)" in svg
    assert "interval" not in dot_plot("a", [Dot("kd", "student", 1.0, 1.0, 1.0)], "NLL", 3)
    assert "kd: 0.123 at 2" in scatter("a", [Dot("kd", "student", 0.1234, 0.1, 0.2, 2.0)], "ms", "NLL", 3)


def test_the_line_at_zero_stays_clear_of_the_values():
    """Where all differences are losses, zero is at the right, where the values stand."""
    svg = dot_plot("a", [Dot("uakd", "student", -0.78, -0.9, -0.6)], "points", 2, signed=True)
    zero = float(re.search(r'class="axis" d="M([\d.]+) ', svg)[1])
    (value,) = (text for text in read(svg).iter("text") if "0.78" in (text.text or ""))
    assert zero < float(value.get("x")) - 7 * len(value.text)


def test_labels_of_low_points_stay_above_the_axis():
    dots = [
        Dot("best", "teacher", 95.0, 95.0, 95.0, 2.0),
        *(Dot(f"run{n}", "peer", 10.0, 9, 11, 1.0) for n in range(4)),
    ]
    root = read(scatter("a", dots, "ms", "", 2))
    heights = sorted(float(text.get("y")) for text in root.iter("text") if (text.text or "").startswith("run"))
    assert heights[-1] <= 250 - 42
    assert min(b - a for a, b in pairwise(heights)) >= 13


def test_a_long_name_is_whole_where_there_is_room():
    dots = [Dot("efficientnet_lite0 (teacher)", "teacher", 95.0, 95, 95, 20.0), Dot("s", "student", 10.0, 9, 11, 1.0)]
    assert "efficientnet_lite0 (teacher)" in [text.text for text in read(scatter("a", dots, "ms", "", 2)).iter("text")]


def test_long_curves_are_thinned_and_keep_their_end():
    steps = list(range(1, 1001))
    root = read(line_chart("a", [Line("long", "student", steps, [float(n) for n in steps])], "epoch", ""))
    path = next(path for path in root.iter("path") if "line" in path.get("class")).get("d")
    assert POINTS / 2 < path.count("L") <= POINTS + 1
    assert path.endswith(f"L{WIDTH - 12} {fitted([1, 1000], 162, 28, True)(1000):g}")


def test_bars_are_as_long_as_their_values():
    root = read(bars("a", [("up", 4.0), ("down", -2.0)], "points"))
    up, down = root.iter("rect")
    assert float(up.get("width")) == pytest.approx(2 * float(down.get("width")), abs=0.3)
    assert (up.get("class"), down.get("class")) == ("gain", "loss")


def test_a_number_left_of_its_bar_stands_apart_from_the_name():
    root = read(bars("a", [("class_1948", -100.0), ("up", 100.0)], "points"))
    name, number = (text for text in list(root.iter("text"))[:2])
    assert float(number.get("x")) - 6.6 * len(number.text) > float(name.get("x")) + 6


def test_reliability_shows_accuracy_and_leaves_empty_bins_out():
    root = read(reliability("a", "student", [*EMPTY[:13], (3, 0.9, 0.5), (1, 1.0, 1.0)]))
    half, full = (float(bar.get("height")) for bar in root.iter("rect"))
    assert full == pytest.approx(2 * half, abs=0.2)


@pytest.mark.parametrize(
    ("axis", "wanted"),
    [
        (Axis(0, 1, 0, 100), [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (Axis(93.4, 99.8, 0, 100), [94, 96, 98]),
        (Axis(0.3, 1.2, 0, 100, True), [0.5, 1]),
        (Axis(0.001, 100, 0, 100, True), [0.001, 0.01, 0.1, 1, 10, 100]),
    ],
)
def test_ticks_are_round_and_inside(axis, wanted):
    assert axis.ticks() == pytest.approx(wanted)
