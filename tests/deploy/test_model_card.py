"""The model card: front matter that parses, whatever the names are, and the run's own numbers."""

import json
from dataclasses import replace

import pytest
import yaml

import attar
from attar.deploy import find_trained
from attar.deploy.model_card import CardText
from attar.experiments.training import card
from attar.recipe import read_recipe


@pytest.fixture
def text(run, exported):
    return CardText(find_trained(run), exported, "the table", "mit")


def split(text):
    """The front matter as data, and the page."""
    _, front, page = text.split("---\n", 2)
    return yaml.safe_load(front), page


def with_card(text, **changes):
    return replace(text, trained=replace(text.trained, card={**text.trained.card, **changes}))


def test_the_front_matter_is_what_hubs_read(exported, run):
    front, _ = split((exported.folder / "README.md").read_text())
    test = json.loads((run / "student.json").read_text())["test"]
    assert front["license"] == "apache-2.0"
    assert (front["library_name"], front["pipeline_tag"]) == ("attar", "image-classification")
    assert {"knowledge-distillation", "kd", "onnx"} <= set(front["tags"])
    assert (front["datasets"], front["metrics"]) == (["digits"], ["accuracy"])
    assert "base_model" not in front
    (index,) = front["model-index"]
    assert index["results"][0]["metrics"] == [{"type": "accuracy", "name": "top-1", "value": test["top1"]}]


def test_the_page_has_the_runs_numbers(exported, run):
    _, page = split((exported.folder / "README.md").read_text())
    results = json.loads((run / "results.json").read_text())
    for name, result in (
        ("teacher", results["teachers"][0]),
        ("student alone", results["runs"][0]["alone"]),
        ("student", results["runs"][0]["student"]),
    ):
        scores = result["scores"]
        assert f"| {name} | {100 * scores['top1']:.2f} | {100 * scores['top5']:.1f} | {scores['nll']:.3f} |" in page
    assert "# resnet8, distilled from resnet8 on digits" in page
    assert "Knowledge Distillation (`kd`; arXiv:1503.02531, 2015)" in page
    assert "mean (0.305), deviation (0.376)" in page
    assert "| onnx-int8 |" in page
    assert "512 training images" in page


def test_nasty_names_stay_names(text):
    nasty = 'a: "b" #c\n- ${d} | *e*'
    card = with_card(text, data_title=nasty, teacher=nasty, classes=[nasty] * 10, method=nasty)
    front, page = split(replace(card, licence="yes: no").text())
    assert front["datasets"] == [nasty]
    assert front["license"] == "yes: no"
    assert nasty in front["tags"]
    assert page.splitlines()[1] == (
        '# resnet8, distilled from a: "b" \\#c - ${d} \\| \\*e\\* on a: "b" \\#c - ${d} \\| \\*e\\*'
    )


def test_a_folder_of_images_does_not_say_where_it_lies(text, run):
    older = with_card(text, data="/home/somebody/pets", data_title=None, data_options={"resize_size": 10})
    assert "(read size 10)" in older.text()
    recipe = read_recipe(run / "recipe.yaml", ["data.name=hf", "data.root=/home/somebody/pets"])
    facts = card(attar.load_data("digits").test, {}, recipe)
    for one in (older, with_card(text, data_title=facts["data_title"])):
        assert "somebody" not in one.text()
        assert "on pets" in one.text()


def test_a_teacher_from_a_hub_is_the_base_model(text):
    front, _ = split(with_card(text, teacher="hf:microsoft/resnet-18").text())
    assert front["base_model"] == ["microsoft/resnet-18"]


def test_a_file_for_phones_has_its_tag_and_its_code(text):
    phone = replace(text.export.files[0], format="executorch", file="student.pte")
    front, page = split(replace(text, export=replace(text.export, files=[phone])).text())
    assert "executorch" in front["tags"]
    assert "onnx" not in front["tags"]
    assert 'load_program("student.pte").load_method("forward")' in page


def test_a_network_that_was_not_distilled(text):
    card = with_card(text, teacher=None, method="supervised")
    front, page = split(card.text())
    assert "knowledge-distillation" not in front["tags"]
    assert "# resnet8, trained on digits" in page
    assert "teacher gets wrong" not in page


def test_a_file_without_a_run_has_its_own_scores(text):
    alone = replace(text, trained=replace(text.trained, finished=False))
    _, page = split(alone.text())
    assert f"| student | {100 * text.card['test']['top1']:.2f} |" in page
    assert "| teacher |" not in page
    assert "Not measured." in with_card(alone, test=None).text()


def test_several_seeds_are_a_mean_and_say_whose_files_these_are(text, tmp_path):
    results = json.loads((text.trained.folder / "results.json").read_text())
    again = json.loads(json.dumps(results["runs"][0]))
    top1 = 100 * again["student"]["scores"]["top1"]
    again["student"]["scores"]["top1"] += 0.02
    (tmp_path / "results.json").write_text(json.dumps({**results, "runs": [results["runs"][0], again]}))
    page = replace(text, trained=replace(text.trained, folder=tmp_path)).text()
    assert f"| student | {top1 + 1:.2f} ± 1.41 |" in page
    assert f"of 2 seeds; these files are of seed 0: top-1 {top1:.2f} %" in page


def test_calibrated_graphs_are_not_called_uncalibrated(text):
    page = replace(text, export=replace(text.export, temperature=1.5)).text()
    assert "calibrate them before" in text.text()
    assert "calibrate them before" not in page
    assert "Probabilities from its weights alone are off by" in page
    assert "the graph files divide the logits by the temperature 1.50, fitted on validation images." in page
