"""Features without labels: a student learns those of a teacher from a folder of images, and starts a classifier."""

import json

import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import nn

import attar
from attar.deploy import load
from attar.errors import AttarError
from attar.methods.common.equal_variances import EqualVariances, equalising
from attar.metrics.features import NEIGHBOURS, effective_rank, knn_accuracy, shared_neighbours
from attar.models import create_model
from attar.models.libraries.create import with_positions
from attar.models.surgery.headless import headless

QUIET = {"console": Console(quiet=True), "device": "cpu", "precision": "float32", "jobs": 1, "compile": False}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """24 images without labels in two folders of no meaning, and 16 of two classes: bright and dark ones."""
    place = tmp_path_factory.mktemp("photos")
    generator = torch.Generator().manual_seed(0)
    for number in range(24):
        pixels = torch.randint(0, 128, (16, 16, 3), generator=generator) + 127 * (number % 2)
        file = place / "any" / ("a" if number < 12 else "b") / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.byte().numpy()).save(file)
    for number in range(16):
        pixels = torch.randint(0, 128, (16, 16, 3), generator=generator) + 127 * (number % 2)
        file = place / "few" / ("bright" if number % 2 else "dark") / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.byte().numpy()).save(file)
    return place


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A small vision transformer in a local file, as a foundation model is given."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("teacher") / "vit.pth"
    torch.save(create_model("timm/test_vit", 0, image_size=16).state_dict(), file)
    return {"name": "timm/test_vit", "weights": str(file), "options": {"input_size": 16}}


@pytest.fixture(scope="module")
def run(photos, teacher, tmp_path_factory):
    """One epoch of matching features, scored on the labelled images."""
    return attar.distill(
        data={"name": str(photos / "any"), "image_size": 16},
        task={"name": "features", "labelled": str(photos / "few")},
        teacher=teacher,
        student="resnet8",
        method="embed",
        epochs=1,
        out=str(tmp_path_factory.mktemp("run") / "run"),
        **QUIET,
    )


def test_a_folder_without_labels_trains_a_student_and_a_knn_score_comes_on_the_way(run):
    records = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert 0 <= records[0]["val_knn"] <= 100
    student = json.loads((run.folder / "student.json").read_text())
    assert student["classes"] == []
    assert {"knn", "rank", "neighbours"} <= set(student["test"])
    assert load(run.folder)(torch.zeros(2, 3, 16, 16)).shape == (2, 64)


def test_unic_brings_the_task_along_and_scores_its_student(photos, tmp_path):
    names, files = ("resnet14", "resnet8x4"), []
    for name in names:
        files.append(str(tmp_path / f"{name}.pth"))
        torch.save(create_model(name, 0, image_size=16).state_dict(), files[-1])
    run = attar.distill(
        data={"name": str(photos / "any"), "image_size": 16},
        task={"labelled": str(photos / "few")},
        teacher={"name": ",".join(names), "weights": ",".join(files)},
        student="resnet8",
        method="unic",
        epochs=1,
        out=str(tmp_path / "run"),
        **QUIET,
    )
    assert 0 <= json.loads((run.folder / "student.json").read_text())["test"]["knn"] <= 1
    assert attar.read_recipe(run.folder / "recipe.yaml").task.name == "features"


def test_a_classifier_starts_from_the_students_features(run, photos, tmp_path):
    with pytest.warns(UserWarning, match="has no classifier: 'fc' begins anew"):
        attar.train_model(
            student=str(run.folder),
            data={"name": str(photos / "few"), "image_size": 16},
            optim={"lr": 1e-9},
            epochs=1,
            batch_size=4,
            out=str(tmp_path / "few"),
            **QUIET,
        )
    found, before = load(tmp_path / "few"), load(run.folder)
    assert found(torch.zeros(2, 3, 16, 16)).shape == (2, 2)
    torch.testing.assert_close(found.conv1.weight, before.conv1.weight, atol=1e-6, rtol=0)


def test_files_and_scores_of_features_have_no_classes(run, photos):
    found = attar.evaluate(run.folder, photos / "few")
    assert 0 <= found["knn"] <= 1
    done = attar.export(run.folder, ["pt2"])
    assert not done.failures
    assert done.files[0].parity.same_label is None
    with pytest.raises(AttarError, match="puts out features, not classes"):
        attar.predict(run.folder, photos / "few")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"alone": "train"}, "alone=train: without labels the student alone has nothing to learn from"),
        ({"method": "kd", "task": "features"}, "no labels to learn from: it takes method=embed"),
        ({"teacher": "resnet8"}, "no labels to learn from: it takes method=embed"),
        ({"data": {"name": "folder", "mixup": 0.2}}, "data.mixup is for images with labels"),
        ({"data": {"name": "folder", "class_weights": "balanced"}}, "data.class_weights is for images with labels"),
        ({"data": "/nowhere"}, "'/nowhere' is no folder; expected one with images"),
        ({"task": {"name": "features", "labelled": "/nowhere"}}, "task.labelled='/nowhere' is no folder"),
        ({"data": {"name": "folder", "crop": 3}}, "unknown option of images without labels: 'crop'"),
    ],
)
def test_what_needs_labels_is_refused_in_one_line(keys, message, photos, teacher, tmp_path):
    given = {"data": {"name": "folder"}, "teacher": teacher, "method": "embed", **keys}
    if isinstance(given["data"], dict):
        given["data"] |= {"root": str(photos / "any"), "image_size": 16}
    with pytest.raises(AttarError, match=message):
        attar.distill(student="resnet8", epochs=1, out=str(tmp_path / "run"), **given, **QUIET)
    assert not (tmp_path / "run").exists()


def test_targets_of_several_teachers_vary_alike_in_every_dimension():
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(500, 7, generator=generator) @ torch.randn(7, 7, generator=generator) + 3
    scale = EqualVariances(7)
    scale.fit(rows)
    targets = scale(rows).double()
    torch.testing.assert_close(targets.var(0), torch.ones(7, dtype=torch.float64), atol=1e-4, rtol=0)
    torch.testing.assert_close(targets.mean(0), torch.zeros(7, dtype=torch.float64), atol=1e-5, rtol=0)
    # Distances are all scaled by one number.
    factor = torch.pdist(rows.double()) / torch.pdist(targets)
    torch.testing.assert_close(factor, factor[:1].expand_as(factor), atol=1e-4, rtol=1e-4)
    turn = equalising(rows.T.cov())
    torch.testing.assert_close(turn @ turn.T, torch.eye(7, dtype=torch.float64), atol=1e-10, rtol=0)


def test_a_term_is_the_share_of_variance_that_is_not_explained():
    torch.manual_seed(2)
    teachers = [headless(create_model(name, 4)) for name in ("resnet8", "resnet14")]
    method = attar.create_method(
        "embed", teacher=teachers, student=headless(create_model("resnet8", 4)), task="features"
    )
    images = torch.randn(64, 3, 32, 32)
    batch = attar.Batch(images, torch.full((64,), -1))
    method.prepare([batch])
    for head in method.heads:
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    losses = method(images, torch.full((64,), -1))
    assert losses["total"].item() == pytest.approx(63 / 64, abs=1e-3)
    assert set(losses) == {"total", "teacher1.scaled->student.features", "teacher2.scaled->student.features"}


def test_a_teacher_of_constant_features_is_refused():
    with pytest.raises(AttarError, match="features are the same for all images"):
        EqualVariances(2).fit(torch.ones(4, 2))


def test_measures_by_value():
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [0.01, 1.0]])
    assert knn_accuracy(rows, torch.tensor([0, 0, 1, 1])) == 1
    assert knn_accuracy(rows, torch.tensor([0, 1, 0, 1])) == 0
    generator = torch.Generator().manual_seed(3)
    many, other = (torch.randn(200, 8, generator=generator) for _ in range(2))
    assert shared_neighbours(many, many) == 1
    assert shared_neighbours(many, other) == pytest.approx(NEIGHBOURS / 199, abs=0.03)
    assert effective_rank(many) == pytest.approx(8, abs=0.2)


def test_positions_of_patches_are_interpolated_as_timm_does_it():
    pytest.importorskip("timm")
    from attar.models.libraries.imports import import_timm

    import_timm()
    from timm.layers import resample_abs_pos_embed

    state = {"pos_embed": torch.randn(1, 17, 8), "patch_embed.proj.weight": torch.zeros(8, 3, 4, 4)}
    expected = resample_abs_pos_embed(state["pos_embed"], new_size=[6, 6], num_prefix_tokens=1)
    torch.testing.assert_close(with_positions(state, 24)["pos_embed"], expected)
    assert with_positions(state, 16) is state
