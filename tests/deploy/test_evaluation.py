"""Any saved network is scored on any data: runs, exported files, plain weights; with each class and every mistake."""

import csv
import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import attar
from attar.data import load_data
from attar.deploy import Student, scored_file
from attar.deploy.formats import FORMATS
from attar.deploy.formats.pt2 import to_pt2
from attar.deploy.scored_file import _card
from attar.errors import AttarError
from attar.experiments.compared_network import compared_network
from attar.models.graphs.traced import Deployed
from attar.recipe import read_recipe, to_yaml
from attar.report.evaluation import FILES, Evaluation

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """The first 60 test digits as grey PNG files, a folder a class."""
    root = tmp_path_factory.mktemp("digits")
    test = load_data("digits").test
    for number in range(60):
        place = root / test.classes[int(test.labels[number])]
        place.mkdir(exist_ok=True)
        Image.fromarray(test.images[number, 0].numpy()).convert("RGB").save(place / f"{number}.png")
    return root


@pytest.mark.parametrize("file", ["student.onnx", "student.pt2", "student.safetensors"])
def test_an_exported_file_scores_as_its_run(exported, run, file):
    own, found = attar.evaluate(run), attar.evaluate(exported.folder / file)
    assert isinstance(found, Evaluation)
    assert found["count"] == own["count"] == 898
    assert found["top1"] == own["top1"]
    assert found["nll"] == pytest.approx(own["nll"], rel=1e-4)


@pytest.mark.parametrize("file", ["student.onnx", "student.pt2"])
def test_a_file_that_normalises_inside_scores_as_its_run(baked, run, file):
    assert attar.evaluate(baked.folder / file, "digits")["top1"] == attar.evaluate(run)["top1"]


def test_each_class_is_counted_from_the_confusion_matrix(run):
    found = attar.evaluate(run)
    table, test = found.confusion, load_data("digits", val_fraction=0).test
    assert table.sum() == 898
    assert np.trace(table) / 898 == pytest.approx(found["top1"])
    assert table.sum(1).tolist() == test.labels.bincount().tolist()
    three = found.per_class()["3"]
    assert three.recall == pytest.approx(table[3, 3] / table[3].sum())
    assert three.precision == pytest.approx(table[3, 3] / table[:, 3].sum())
    assert three.f1 == pytest.approx(2 / (1 / three.recall + 1 / three.precision))
    assert three.recall == pytest.approx(found["per_class"][3])


def test_mistakes_are_listed_with_their_probabilities(run, tmp_path):
    found = attar.evaluate(run)
    found.write(tmp_path)
    rows = list(csv.DictReader((tmp_path / "mistakes.csv").read_text().splitlines()))
    assert len(rows) == round(898 * (1 - found["top1"]))
    assert all(row["truth"] != row["predicted"] for row in rows)
    sure = [float(row["probability"]) for row in rows]
    assert sure == sorted(sure, reverse=True)
    assert 10 < sure[0] <= 100
    test = load_data("digits").test
    assert all(test.classes[int(test.labels[int(row["file"])])] == row["truth"] for row in rows)
    assert json.loads((tmp_path / "scores.json").read_text())["top1"] == found["top1"]
    table = list(csv.reader((tmp_path / "confusion.csv").read_text().splitlines()))
    assert [len(table), len(table[0])] == [11, 11]


def test_plain_weights_need_the_name_of_their_network(pictures, tmp_path):
    net = attar.create_model("resnet8", 10, 3, 8)
    torch.save(net.state_dict(), tmp_path / "plain.pth")
    with pytest.raises(AttarError, match="--network NAME"):
        attar.evaluate(tmp_path / "plain.pth", pictures)
    with pytest.raises(AttarError, match="give the data"):
        attar.evaluate(tmp_path / "plain.pth", network="resnet8")
    found = attar.evaluate(tmp_path / "plain.pth", pictures, network="resnet8", image_size=8)
    assert found["count"] == 60
    assert found["top1"] < 0.5


def test_a_folder_with_fewer_classes_is_scored_by_their_names(photo_run, pictures, tmp_path):
    whole = attar.evaluate(photo_run, pictures)
    assert whole["count"] == sum(1 for _ in pictures.glob("*/*.png")) == 60
    shutil.copytree(pictures, tmp_path / "few")
    for name in "0124689":
        shutil.rmtree(tmp_path / "few" / name)
    few = attar.evaluate(photo_run, tmp_path / "few")
    assert few["count"] == sum(1 for _ in (tmp_path / "few").glob("*/*.png"))
    assert few.confusion.shape == (10, 10)
    assert few.per_class()["7"].recall == whole.per_class()["7"].recall
    assert {row["file"].split("/")[-2] for row in few.mistakes()} <= {"3", "5", "7"}
    # Also where the classes that are there could be the numbers of nameless ones.
    shutil.rmtree(tmp_path / "few")
    shutil.copytree(pictures, tmp_path / "few")
    for name in "23456789":
        shutil.rmtree(tmp_path / "few" / name)
    first = attar.evaluate(photo_run, tmp_path / "few")
    assert first.per_class()["1"].recall == whole.per_class()["1"].recall
    (tmp_path / "few" / "1").rename(tmp_path / "few" / "three")
    with pytest.raises(AttarError, match="no class 'three'"):
        attar.evaluate(photo_run, tmp_path / "few")


def test_training_images_are_not_read(photo_run, pictures, tmp_path):
    for split in ("train", "test"):
        shutil.copytree(pictures, tmp_path / split)
    (tmp_path / "train" / "3" / "broken.png").write_bytes(b"no image")
    found = attar.evaluate(photo_run / "export" / "student.onnx", tmp_path)
    assert found["count"] == 60
    assert found["top1"] == attar.evaluate(photo_run, pictures)["top1"]
    (tmp_path / "test" / "3" / "broken.png").write_bytes(b"no image")
    with pytest.raises(AttarError, match=r"cannot read image .*test/3/broken\.png .*data\.skip_unreadable=true"):
        attar.evaluate(photo_run, tmp_path)
    assert attar.evaluate(photo_run, tmp_path, skip_unreadable=True)["count"] == 60


def test_the_folder_it_was_trained_on_keeps_its_split(photo_run):
    assert attar.evaluate(photo_run)["count"] == 12
    assert attar.evaluate(photo_run / "export" / "student.onnx", photo_run.parent / "trained")["count"] == 12


def test_a_folder_may_have_been_named_by_its_root(photo_run, tmp_path):
    """data=folder data.root=FOLDER is the same as data=FOLDER."""
    folder, trained = tmp_path / "run", photo_run.parent / "trained"
    shutil.copytree(photo_run, folder)
    recipe = read_recipe(folder / "recipe.yaml")
    named = replace(recipe, data=replace(recipe.data, name="folder", root=str(trained)))
    (folder / "recipe.yaml").write_text(to_yaml(named))
    card = json.loads((folder / "student.json").read_text())
    (folder / "student.json").write_text(json.dumps({**card, "data": "folder"}))
    assert attar.evaluate(folder, trained)["count"] == attar.evaluate(folder)["count"] == 12


@pytest.fixture(scope="module")
def photo_run(pictures, tmp_path_factory):
    """A student of the pictures; a fifth of them, 12, are its test set."""
    folder = tmp_path_factory.mktemp("runs") / "photos"
    shutil.copytree(pictures, folder.parent / "trained")
    keys = {"data": {"name": str(folder.parent / "trained"), "options": {"image_size": 8}}, "batch_size": 16}
    values = {"student": "resnet8", "method": "supervised", "alone": "skip", "epochs": 1, "precision": "float32"}
    attar.train_model(**keys, **values, out=str(folder), export="onnx,int8")
    return folder


def test_a_recipe_exports_what_it_names(photo_run):
    done = attar.deploy.read_export(photo_run / "export")
    assert [file.format for file in done.files] == ["onnx", "onnx-int8"]
    assert done.count == 12
    assert done.files[0].latency.median > 0
    assert (photo_run / "export" / "student.int8.onnx").is_file()
    assert attar.deploy.read_export(photo_run) is None


def test_the_report_of_a_run_has_its_files_classes_and_confusions(photo_run):
    page = (photo_run / "report.html").read_text(encoding="utf-8")
    assert "Exported files" in page
    assert "onnx-int8" in page.split("Exported files")[1].split("<section>")[0]
    assert page.split("Class by class")[1].split("</section>")[0].count("<tr") == 11
    assert page.split('class="heat"')[1].split("</table>")[0].count("--share:") == 100


def test_an_unknown_format_is_found_before_anything_is_read(tmp_path):
    with pytest.raises(AttarError, match="unknown format"):
        attar.train_model(student="resnet8", data={"name": "folder", "root": "/nowhere"}, export="onxx")


def rewritten(run, folder, rows, **facts):
    """A copy of a run whose student's classifier has its rows, and so its classes, in another order."""
    shutil.copytree(run, folder)
    card = json.loads((folder / "student.json").read_text())
    card |= {"classes": [card["classes"][row] for row in rows], **facts}
    (folder / "student.json").write_text(json.dumps(card))
    weights = load_file(folder / "student.safetensors")
    for name in [name for name, tensor in weights.items() if len(tensor.shape) and len(tensor) == len(rows)]:
        weights[name] = weights[name][rows].contiguous()
    save_file(weights, folder / "student.safetensors")
    return folder


@pytest.fixture(scope="module")
def named(pictures, tmp_path_factory):
    """A student of the pictures under names that are no numbers, and the pictures."""
    root = tmp_path_factory.mktemp("named")
    for place in pictures.iterdir():
        shutil.copytree(place, root / "data" / f"digit {place.name}")
    data = {"name": str(root / "data"), "options": {"image_size": 8}}
    values = {"student": "resnet8", "method": "supervised", "alone": "skip", "epochs": 1, "precision": "float32"}
    attar.train_model(**values, data=data, batch_size=16, out=str(root / "run"))
    return root / "run", root / "data"


def test_a_teacher_keeps_its_own_order_of_the_classes(named, tmp_path):
    folder, data = named
    names = json.loads((folder / "student.json").read_text())["classes"]
    rows = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
    other = rewritten(folder, tmp_path / "other", rows, classes=[names[row] for row in rows])
    found = attar.evaluate(folder, str(data), teacher=other)
    assert found["agreement"] == 1
    assert found["kl"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"classes": [f"other {number}" for number in range(10)]}, "was trained on other classes"),
        ({"classes": ["one", "two"]}, "has 2 classes, the network 10"),
        ({"task": "multilabel"}, "has task multilabel, the network classification"),
    ],
)
def test_a_teacher_that_cannot_be_compared_is_one_line(named, tmp_path, facts, message):
    folder, data = named
    other = rewritten(folder, tmp_path / "other", list(range(10)), **facts)
    with pytest.raises(AttarError, match=message):
        attar.evaluate(folder, str(data), teacher=other)


def test_a_teacher_keeps_its_own_normalisation(named, tmp_path):
    folder, data = named
    card = json.loads((folder / "student.json").read_text())
    own, shifted = (rewritten(folder, tmp_path / name, list(range(10))) for name in ("own", "shifted"))
    facts = json.loads((shifted / "student.json").read_text())
    facts |= {"mean": [mean + 0.2 for mean in card["mean"]], "std": [2 * std for std in card["std"]]}
    (shifted / "student.json").write_text(json.dumps(facts))
    same, other = (attar.evaluate(folder, str(data), teacher=one) for one in (own, shifted))
    assert same["kl"] == pytest.approx(0, abs=1e-6)
    assert other["kl"] > 0.01


@pytest.mark.parametrize(("own", "theirs", "fits"), [([16], [32], True), ([3, 8], [5, 8], False)])
def test_a_teacher_of_sequences_may_have_seen_other_lengths(tmp_path, own, theirs, fits):
    card = {"task": "language", "outputs": 256}
    (tmp_path / "a.json").write_text(json.dumps({**card, "attar": "0", "spec": {}, "input_shape": theirs}))
    net, first = torch.nn.Identity(), {**card, "input_shape": own}
    compared = partial(compared_network, net, tmp_path / "a.safetensors", first, None, "language")
    if fits:
        assert compared() is net
        return
    with pytest.raises(AttarError, match=r"has input_shape \[5, 8\], the network \[3, 8\]"):
        compared()


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        ({"tokenizer_digest": "ab"}, {"tokenizer_digest": "cd"}, "has tokenizer_digest cd, the network ab; give one"),
        ({"pairs": False}, {"pairs": True}, "has pairs True, the network False"),
        ({"classes": ["a", "b"]}, {"classes": ["b", "a"]}, r"has classes \['b', 'a'\], the network \['a', 'b'\]"),
        ({"tokenizer_digest": "ab"}, {}, None),
    ],
)
def test_a_teacher_of_texts_reads_the_same_ids_and_names_the_same_classes(tmp_path, ours, theirs, message):
    card = {"task": "text", "outputs": 2, "input_shape": [16]}
    (tmp_path / "a.json").write_text(json.dumps({**card, **theirs, "attar": 1, "spec": {}}))
    net = torch.nn.Identity()
    compared = partial(compared_network, net, tmp_path / "a.safetensors", {**card, **ours}, None, "text")
    if message is None:
        assert compared() is net
        return
    with pytest.raises(AttarError, match=message):
        compared()


@pytest.fixture(scope="module")
def features_file(tmp_path_factory):
    """A network of features, exported."""
    splits = load_data("digits", val_fraction=0)
    few = splits.test.subset(torch.arange(20))
    net = attar.create_model("resnet8", num_classes=0, in_channels=1, image_size=8).eval()
    card = {**few.card, "classes": [], "task": "features", "task_options": {}, "data": "digits"}
    file = tmp_path_factory.mktemp("features") / "student.pt2"
    FORMATS["pt2"].write(Student(net, card, few, few, attar.create_task("features")), file)
    return file


def test_a_file_is_scored_by_its_own_task(features_file):
    found = attar.evaluate(features_file, "digits")
    assert found["knn"] > 0.5
    assert "top1" not in found


def test_a_file_of_an_older_version_names_no_task(features_file):
    facts = FORMATS["pt2"].facts(features_file)
    assert facts.pop("task") == "features"
    assert facts.pop("task_options") == "{}"
    assert scored_file._card(facts, features_file, features_file.parent)["task"] == "features"
    classes = {**facts, "classes": '["a"]'}
    assert scored_file._card(classes, features_file, features_file.parent)["task"] == ""
    with pytest.raises(AttarError, match="has damaged metadata"):
        scored_file._card({**facts, "task_options": "3"}, features_file, features_file.parent)


def test_a_graph_of_a_run_over_several_seeds_finds_the_record_of_the_first(tmp_path, monkeypatch):
    for place in ("export", "seed10", "seed2"):
        (tmp_path / place).mkdir()
    net, inputs = Deployed(torch.nn.Linear(4, 3), [0.0], [1.0], bake=False).eval(), torch.zeros(2, 4)
    (tmp_path / "export" / "student.pt2").write_bytes(to_pt2(net, inputs, {"task": "series"}))
    for seed in (10, 2):
        card = {"data": "x", "classes": [], "input_shape": [4], "outputs": 3, "task": "series", "seed": seed}
        attar.deploy.save(torch.nn.Linear(4, 3), tmp_path / f"seed{seed}" / "student.safetensors", **card)
        file = tmp_path / f"seed{seed}" / "student.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "spec": {}}))
    monkeypatch.chdir(tmp_path / "export")
    opened = scored_file.open_scored("student.pt2")
    assert (opened.card["seed"], opened.run) == (2, tmp_path)


def test_a_folder_keeps_no_tables_of_another_network(features_file, run, tmp_path, request):
    attar.evaluate(run).write(tmp_path)
    assert {one.name for one in tmp_path.iterdir()} == {"scores.json", *FILES}
    status, printed, _ = request.getfixturevalue("attar")("evaluate", features_file, "digits", "--out", tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["scores.json"]
    assert (status, printed.splitlines()[-1]) == (0, f"Scores: {tmp_path}")


@pytest.mark.parametrize(
    ("read", "size", "options"),
    [
        (64, [64, 32], {"resize_size": 64}),
        (32, [32, 32], {}),
        ([64, 32], [64, 32], {}),
        (40, [32, 32], {"resize_size": 40}),
    ],
)
def test_an_exported_file_is_read_as_its_run_was(read, size, options):
    facts = {"classes": ["a"], "mean": [0.5], "std": [0.5], "image_size": size, "read_size": read}
    found = _card({key: json.dumps(value) for key, value in facts.items()}, Path("a.onnx"), Path())
    assert found["data_options"] == options
