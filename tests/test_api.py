"""One call from Python: distil, load, evaluate, and what the files beside a network promise."""

import io
import json
import shutil

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

import attar
from attar.data import load_data
from attar.experiments import job, launch
from attar.experiments.build import teacher_parts
from attar.metrics import evaluate
from attar.models import build
from attar.profiling import Latency
from attar.recipe import read_recipe

TINY = {"student": "resnet8", "data": {"name": "digits", "train_size": 60}, "batch_size": 20, "epochs": 1,
        "precision": "float32"}  # fmt: skip


def distill(folder, **values):
    return attar.distill(**{**TINY, "out": str(folder), **values}, console=Console(file=io.StringIO()))


@pytest.fixture(scope="module")
def simkd(tmp_path_factory):
    """A run whose deployed network is not a network of the zoo, on images of another size and normalisation."""
    folder = tmp_path_factory.mktemp("runs") / "simkd"
    data = {"name": "digits", "train_size": 60, "image_size": 16, "mean": [0.5], "test_fraction": 0.25}
    return distill(folder, teacher="resnet14", method="simkd", data=data, alone="skip", optim={"ema": 0.5})


def test_load_and_plain_torch_give_equal_outputs(simkd):
    images = torch.randn(2, 1, 16, 16)
    net = attar.load(simkd.folder)
    plain = build(json.loads((simkd.folder / "student.json").read_text())["spec"])
    plain.load_state_dict(load_file(simkd.student))
    assert torch.equal(plain.eval()(images), net(images))
    assert torch.equal(attar.load(simkd.student)(images), net(images))


def test_the_saved_network_is_the_one_that_was_scored(simkd):
    test = load_data("digits", image_size=16, mean=[0.5], test_fraction=0.25).test
    from attar.data import eval_batches

    scores = evaluate(attar.load(simkd.folder), eval_batches(test, 250))
    assert scores.nll == pytest.approx(simkd.runs[0]["student"].scores["nll"], rel=1e-6)


def test_evaluate_uses_the_size_normalisation_and_split_it_was_trained_with(simkd):
    for path in (simkd.folder, simkd.student):
        scores = attar.evaluate(path)
        assert scores["count"] == simkd.runs[0]["student"].scores["count"] == 449
        assert scores["nll"] == pytest.approx(simkd.runs[0]["student"].scores["nll"], rel=1e-6)


def test_the_parameters_of_a_kept_projector_are_counted(simkd):
    net = attar.load(simkd.folder)
    assert simkd.runs[0]["student"].cost.parameters == sum(p.numel() for p in net.parameters())


def test_a_card_without_facts_is_no_card_of_a_run(tmp_path):
    net = attar.create_model("resnet8", num_classes=10, in_channels=1, image_size=8)
    file = attar.deploy.save(net, tmp_path / "net.safetensors")
    with pytest.raises(attar.AttarError, match=r"net\.json has no data; it was not written by a run"):
        attar.evaluate(file)


def test_the_function_train_trains(tmp_path):
    summary = attar.train_model(**TINY, out=str(tmp_path / "plain"), console=Console(file=io.StringIO()))
    assert [row[0] for row in summary.score_table().rows] == ["resnet8 trained"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"student": "resnet14"}, "has network 'resnet8', this run 'resnet14'"),
        ({"seed": 1}, "has seed 0, this run 1"),
    ],
)
def test_a_baseline_must_be_of_the_same_student_and_seed(tmp_path, change, message):
    attar.train_model(**TINY, out=str(tmp_path / "plain"), console=Console(file=io.StringIO()))
    with pytest.raises(attar.AttarError, match=message):
        distill(tmp_path / "new", method="dml", alone=str(tmp_path / "plain"), **change)
    assert not (tmp_path / "new").exists()


def test_a_distilled_student_is_no_baseline(simkd, tmp_path):
    with pytest.raises(attar.AttarError, match=r"has network None|has method 'simkd'"):
        distill(tmp_path / "new", method="dml", alone=str(simkd.folder))


def test_evaluating_a_folder_run_finds_its_images(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for number in range(12):
        for name, colour in (("cat", "red"), ("dog", "blue")):
            (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
            image.new("RGB", (9, 9), colour).save(tmp_path / "photos" / name / f"{number}.png")
    data = {"name": "folder", "root": str(tmp_path / "photos"), "image_size": 8, "test_fraction": 0.5}
    run = attar.train_model(
        student="resnet8", data={**data, "val_fraction": 0.2}, batch_size=4, epochs=1, precision="float32",
        out=str(tmp_path / "run"), console=Console(file=io.StringIO()),
    )  # fmt: skip
    assert attar.evaluate(run.folder)["count"] == run.runs[0]["student"].scores["count"] == 12


def test_a_method_inside_ones_own_loop():
    make = {"num_classes": 10, "in_channels": 1, "image_size": 8}
    student = attar.create_model("resnet8", **make)
    method = attar.create_method("kd", teacher=attar.create_model("resnet14", **make), student=student)
    losses = method.losses(torch.randn(4, 1, 8, 8), torch.arange(4), epoch=3, epochs=10)
    losses.total.backward()
    assert losses["teacher.logits->student.logits"] > 0
    assert student.conv1.weight.grad is not None
    assert method.deployed() is student


def test_several_teachers_are_separated_by_commas():
    recipe = read_recipe(overrides=["teacher=resnet8, resnet14", "teacher.weights=a.pth,b.pth"])
    assert teacher_parts(recipe.teacher) == [("resnet8", "a.pth"), ("resnet14", "b.pth")]
    with pytest.raises(attar.AttarError, match=r"names 2 networks but teacher\.weights 1 files"):
        teacher_parts(read_recipe(overrides=["teacher=a,b", "teacher.weights=a.pth"]).teacher)


def test_a_fresh_folder_never_leaves_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = read_recipe(overrides=["teacher=resnet14", "student=resnet8", "data=/somewhere/photos"])
    assert str(launch.fresh_folder(recipe)) == "runs/kd-resnet14-resnet8-photos"
    launch.fresh_folder(recipe).mkdir(parents=True)
    assert str(launch.fresh_folder(recipe)) == "runs/kd-resnet14-resnet8-photos-2"
    recipe = read_recipe(overrides=["method=supervised", "student=timm/resnet10t", "data=/somewhere/photos"])
    assert str(launch.fresh_folder(recipe)) == "runs/supervised-timm-resnet10t-photos"
    recipe = read_recipe(overrides=["teacher=timm/resnet18,onnx//models/net.onnx", "student=resnet8", "data=photos"])
    assert str(launch.fresh_folder(recipe)) == "runs/kd-timm-resnet18-onnx-models-net.onnx-resnet8-photos"


def test_building_a_job_changes_neither_the_recipe_nor_the_disk(tmp_path):
    recipe = read_recipe(**TINY, teacher="resnet14", out=str(tmp_path / "run"))
    before = repr(recipe)
    state = torch.get_rng_state()
    job.Job(recipe, tmp_path / "run", Console(file=io.StringIO()))
    assert repr(recipe) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert not (tmp_path / "run").exists()


def test_train_validation_and_test_images_are_apart():
    splits = load_data("digits", val_fraction=0.1)
    sizes = [len(part) for part in (splits.train, splits.val, splits.test)]
    assert sizes == [809, 90, 898]
    assert sum(sizes) == 1797


def test_a_run_that_lost_its_recipe_cannot_be_resumed(simkd, tmp_path):
    shutil.copytree(simkd.folder, tmp_path / "copy")
    (tmp_path / "copy" / "recipe.yaml").unlink()
    with pytest.raises(attar.AttarError, match="holds no run"):
        attar.resume(tmp_path / "copy")


def test_the_teacher_of_a_job_is_the_one_it_trained(simkd):
    teacher, student = attar.load(simkd.folder / "teacher"), attar.load(simkd.folder)
    assert torch.equal(teacher.fc.weight, student.classifiers[0].weight)


def test_networks_and_data_given_as_objects(tmp_path):
    images = torch.randint(0, 256, (80, 1, 8, 8), dtype=torch.uint8)
    pairs = [(image, index % 4) for index, image in enumerate(images)]
    make = {"num_classes": 4, "in_channels": 1, "image_size": 8}
    plain = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))
    before = plain[1].weight.clone()
    run = attar.distill(
        teacher=attar.create_model("resnet14", **make), student=plain, data=pairs, batch_size=8, epochs=1,
        precision="float32", out=str(tmp_path / "run"), console=Console(file=io.StringIO()),
    )  # fmt: skip
    assert list(run.rows()) == ["ResNet (teacher)", "Sequential alone", "Sequential with kd"]
    assert torch.equal(plain[1].weight, before)
    with pytest.raises(attar.AttarError, match="was an object in Python"):
        attar.resume(run.folder)


def test_objects_that_do_not_fit_the_data_are_refused(tmp_path):
    wrong = attar.create_model("resnet8", num_classes=3, in_channels=1, image_size=8)
    colour = attar.create_model("resnet8", num_classes=10)
    for student, message in (
        (wrong, "the student has 3 classes, the data have 10"),
        (colour, "does not take images"),
    ):
        with pytest.raises(attar.AttarError, match=message):
            attar.distill(student=student, teacher="resnet14", data="digits", out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_peers_do_not_start_as_the_students_twins(tmp_path):
    recipe = read_recipe(**{**TINY, "method": "dml", "out": str(tmp_path / "run")})
    method = job.Job(recipe, tmp_path / "run", Console(file=io.StringIO())).training(0).method
    student, peer = method.student.module, method.peer1.module
    assert not torch.equal(student.conv1.weight, peer.conv1.weight)


def test_the_student_starts_alike_alone_and_distilled(tmp_path):
    built = job.Job(read_recipe(**TINY, teacher="resnet14"), tmp_path / "run", Console(file=io.StringIO()))
    alone, distilled = built.training(0, alone=True).method.student.module, built.training(0).method.student.module
    assert all(torch.equal(one, other) for one, other in zip(alone.parameters(), distilled.parameters(), strict=True))


def test_latencies_of_a_job_are_interleaved(tmp_path, monkeypatch):
    timed = []

    def known(nets, image_shape):
        timed.append([sum(p.numel() for p in net.parameters()) for net in nets])
        return [Latency(float(place), 0.5) for place, _ in enumerate(nets, 1)]

    monkeypatch.setattr(job, "latencies", known)
    recipe = read_recipe(**TINY, teacher={"name": "resnet14", "epochs": 1}, out=str(tmp_path / "run"))
    summary = launch.start(recipe, Console(file=io.StringIO()))
    costs = [summary.teachers[0].cost, summary.runs[0]["alone"].cost, summary.runs[0]["student"].cost]
    assert [cost.latency_ms for cost in costs] == [1.0, 2.0, 3.0]
    assert timed == [[cost.parameters for cost in costs]]
