"""Methods explained: text at any width, and a page of each."""

import json
from pathlib import Path

import pytest

from attar.errors import AttarError
from attar.methods import list_methods, method_info
from attar.report.method_records import cost_texts, costs
from attar.report.method_text import cost_sentence, doc_of, explained, method_page, own_names, reflowed, split_sections
from attar.report.published import published

ROOT = Path(__file__).parents[2]
MEASUREMENTS = (ROOT / "docs/measurements.md").read_text()


@pytest.mark.parametrize("width", [40, 100, 160])
def test_no_line_is_longer_than_the_width_and_no_word_is_lost(width):
    for name in ("sokd", "crd", "unikd"):
        doc = doc_of(method_info(name)).partition("\n\n>>>")[0]
        lines = reflowed(doc, width).splitlines()
        assert all(len(line) <= width or " " not in line.strip() for line in lines)
        assert " ".join(" ".join(lines).split()) == " ".join(doc.split())


def test_short_lines_are_joined():
    doc = doc_of(method_info("lskd"))
    assert max(map(len, reflowed(doc, 200).splitlines())) > 120


@pytest.mark.parametrize("name", ["kd", "crd", "dml"])
def test_every_option_has_its_meaning(name):
    info = method_info(name)
    _, sections = split_sections(doc_of(info))
    assert set(info.defaults) <= dict(sections["Args"]).keys()


def test_a_page_has_the_formula_the_options_the_drawing_and_the_numbers():
    page = method_page("dkd", MEASUREMENTS)
    assert page.startswith("# dkd\n\nDecoupled Knowledge Distillation\n")
    assert "[arXiv:2203.08679](https://arxiv.org/abs/2203.08679), 2022" in page
    assert "L = ce \\* CE + w(epoch) \\* T^2 (alpha \\* TCKD + beta \\* NCKD)" in page
    assert "| `method.beta` | `8.0` | weight of the other classes (8 for resnet32x4" in page
    assert '<div class="graph">\n<svg ' in page
    assert "ramp x DKD logits</text>" in page
    assert "| resnet32x4, resnet8x4 | 79.42 | 72.50 | 76.32 |" in page


def test_what_a_step_costs_is_a_sentence():
    sentence = cost_sentence("fitnet", {"step": 1.141, "extra": 16640})
    assert sentence.startswith("A step takes 1.1 times a step of kd and trains 16,640 parameters beside the student's")
    assert sentence.endswith("measured on a busy machine to about a tenth).")
    assert "takes 1.0 times a step of kd" in cost_sentence("kd", {"step": 1.141, "extra": 0})
    assert cost_texts("kd") == ("1.0", "0")
    assert cost_sentence("kd", costs()["abkd"]) in explained("abkd", 300)


def test_a_page_runs_networks_that_the_method_runs_on():
    page = method_page("internal")
    networks = "teacher=timm/deit_tiny_patch16_224 student=timm/deit_tiny_patch16_224 student.options.depth=6"
    assert f"attar distill {networks} data=cifar100 method=internal\n" in page
    assert "| paper | ICLR 2023 |" in method_page("norm")
    assert "trains 1 parameter beside" in cost_sentence("ctkd", {"step": 1.0, "extra": 1})


def test_our_own_numbers_stand_beside_the_published_ones():
    page = method_page("simkd", MEASUREMENTS)
    assert page.index("## Published top-1") < page.index("## Measured here") < page.index("| simkd | 21.02 ± 0.82 |")
    assert "| kd | 21.89" not in page


def test_every_method_has_a_page():
    for name in own_names():
        assert f"method={name}\n" in method_page(name)


def test_published_numbers_are_of_methods_and_pairs_that_are_known():
    known = published()
    assert set(known["methods"]) <= set(list_methods())
    for record in known["methods"].values():
        assert record["sources"]
        assert set(record["top1"]) <= set(known["teacher"])


def test_the_costs_shown_are_those_of_the_benchmark():
    whole = json.loads((ROOT / "benchmarks/results/step-cost.json").read_text())["methods"]
    assert costs() == {name: {"step": one["live"][1], "extra": one["extra"]} for name, one in whole.items()}


def test_what_does_not_join_is_an_error():
    with pytest.raises(AttarError, match="runs its networks in its own way"):
        explained("kd+sokd", 80)
