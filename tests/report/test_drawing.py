"""The picture of who teaches whom."""

import itertools
import re
from xml.etree import ElementTree

import pytest

from attar.knowledge import Graph, Transfer
from attar.losses import MSE, CrossEntropy, KLDivergence
from attar.report.drawing import LINE, Label, _labels, svg

NS = "{http://www.w3.org/2000/svg}"


def drawn(*edges):
    root = ElementTree.fromstring(svg(Graph(edges)))
    boxes = {}
    for group in root.findall(f"{NS}g"):
        x, y = map(float, group.get("transform")[len("translate(") : -1].split())
        boxes[group.find(f"{NS}text").text] = (x, y)
    return root, boxes


def test_teachers_stand_left_of_learners_and_all_inside_the_frame():
    root, boxes = drawn(
        Transfer("labels", "student.logits", CrossEntropy()),
        Transfer("teacher.logits", "assistant.logits", KLDivergence()),
        Transfer("assistant.logits", "student.logits", KLDivergence()),
    )
    assert set(boxes) == {"labels", "teacher", "assistant", "student"}
    assert boxes["teacher"][0] < boxes["assistant"][0] < boxes["student"][0]
    assert all(x + 132 <= float(root.get("width")) and y + 44 <= float(root.get("height")) for x, y in boxes.values())
    assert len(set(boxes.values())) == 4


def test_one_arrow_a_pair_with_a_label_an_edge():
    root, _ = drawn(
        Transfer("teacher.logits", "student.logits", KLDivergence(), weight=0.9),
        Transfer("teacher.stage2", "student.stage2", MSE()),
    )
    arrows = [path for path in root.findall(f"{NS}path") if path.get("marker-end")]
    assert len(arrows) == 1
    assert [text.text for text in root.findall(f"{NS}text")] == ["0.9 x KLDivergence logits", "1 x MSE stage2"]


def test_two_heads_where_both_learn():
    root, _ = drawn(Transfer("student.logits", "peer.logits", MSE(), learns="both"))
    assert root.find(f"{NS}path").get("marker-start") == "url(#head)"


@pytest.mark.parametrize(
    "edges",
    [
        [("student.stage3", "student.stage1")],
        [("a.logits", "b.logits"), ("b.logits", "a.logits")],
        [("a.x", "b.x"), ("b.x", "c.x"), ("c.x", "a.x")],
    ],
    ids=["itself", "each other", "a circle"],
)
def test_circles_can_be_drawn(edges):
    root, boxes = drawn(*(Transfer(*ends, MSE()) for ends in edges))
    assert len(boxes) == len({name.split(".")[0] for ends in edges for name in ends})
    assert len([path for path in root.findall(f"{NS}path") if path.get("marker-end")]) == len(edges)


def test_names_are_escaped():
    root, boxes = drawn(Transfer('<b>&".logits', "student.logits", MSE()))
    assert '<b>&"' in boxes
    assert root is not None


def test_who_teach_each_other_stand_in_one_column():
    _, boxes = drawn(
        Transfer("labels", "student.logits", CrossEntropy()),
        Transfer("teacher.a", "student.a", MSE()),
        Transfer("student.a", "teacher.a", MSE()),
    )
    assert boxes["student"][0] == boxes["teacher"][0] > boxes["labels"][0]
    assert boxes["student"][1] != boxes["teacher"][1]


def test_labels_never_cover_each_other():
    crowded = [Label("0.9 x KLDivergence logits", 300, 100 + n, "middle") for n in range(4)]
    lines = _labels([*crowded, Label("x", 900, 101, "start")])
    places = [(float(x), float(y)) for x, y in re.findall(r'<text x="([\d.]+)" y="([\d.]+)"', "".join(lines))]
    heights = sorted(y for x, y in places if x == 300)
    assert all(second - first >= LINE for first, second in itertools.pairwise(heights))
    assert (900.0, 101.0) in places


def test_a_long_label_stays_clear_of_the_boxes_at_its_arrow():
    long = "stage1.a_layer_with_a_rather_long_name_of_its_own"
    root, boxes = drawn(
        Transfer("labels", "student.logits", CrossEntropy()),
        Transfer(f"teacher.{long}", f"student.{long}", MSE(), weight=0.25),
    )
    label = next(text for text in root.findall(f"{NS}text") if "MSE" in text.text)
    half = Label(label.text, 0, 0, "middle").width / 2
    assert float(label.get("x")) - half >= boxes["teacher"][0] + 132
    assert float(label.get("x")) + half <= boxes["student"][0]
