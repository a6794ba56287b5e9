"""Multi-label classification: its losses, the mosaics, and networks of every kind."""

import copy

import pytest
import torch

import attar
from attar.batch import Batch
from attar.conformance import check
from attar.data import loader_for
from attar.errors import AttarError
from attar.losses import BinaryKL, binary_cross_entropy, class_structure, instance_structure
from attar.methods import create_method
from attar.models import create_model, list_models
from attar.recipe import read_recipe
from attar.tasks import create_task, task_of

SMALL = {"name": "digit_mosaics", "train_images": 40, "test_images": 20}


@pytest.fixture(scope="module")
def mosaics():
    recipe = read_recipe(data=SMALL)
    return task_of(recipe).load(recipe)


def test_a_mosaic_has_the_labels_of_its_digits(mosaics):
    digits = attar.load_data("digits", val_fraction=0)
    for role, source in (("train", digits.train), ("val", digits.train), ("test", digits.test)):
        images = getattr(mosaics, role)
        known = {one.numpy().tobytes(): int(y) for one, y in zip(source.images, source.labels, strict=True)}
        tiles = images.images.unfold(2, 8, 8).unfold(3, 8, 8)[:, 0].flatten(1, 2)
        for row, labels in zip(tiles, images.labels, strict=True):
            shown = {known[tile.contiguous().numpy().tobytes()] for tile in row if tile.any()}
            assert shown == {*labels.nonzero().flatten().tolist()}
            assert shown
    assert (len(mosaics.train), len(mosaics.val), len(mosaics.test)) == (40, 4, 20)
    again = attar.load_data(**{("data" if key == "name" else key): value for key, value in SMALL.items()})
    assert torch.equal(again.train.images, mosaics.train.images)


def test_networks_see_mosaics_around_zero():
    batch = next(iter(loader_for(attar.load_data("digit_mosaics").train, 4000, shuffle=False).epoch(0)))
    assert abs(float(batch.images.mean())) < 0.02
    assert float(batch.images.std()) == pytest.approx(1, abs=0.02)


def test_kd_is_the_sum_of_its_two_losses(mosaics):
    nets = [create_model(name, num_classes=10, in_channels=1) for name in ("resnet14", "resnet8")]
    method = create_method("kd", teacher=nets[0], student=nets[1], task="multilabel", temperature=2.0, ce=0.4, kd=0.6)
    batch = next(iter(loader_for(mosaics.train, 20).epoch(0)))
    losses = check(method, batch)
    own, theirs = losses.knowledge["student.label_logits"], losses.knowledge["teacher.label_logits"]
    truth = torch.nn.functional.binary_cross_entropy_with_logits(own, batch.labels.float())
    imitated = BinaryKL(2.0)(own, theirs) / 10
    assert losses.total.item() == pytest.approx((0.4 * truth + 0.6 * imitated).item(), rel=1e-5)


def learns(name, mosaics, **options):
    net = create_model(name, num_classes=10, in_channels=1, image_size=16, **options)
    method = create_method("supervised", student=net, task="multilabel")
    check(method, next(iter(loader_for(mosaics.train, 8).epoch(0))))


def test_l2d_is_the_published_sum_at_the_published_batch(mosaics):
    nets = [create_model(name, num_classes=10, in_channels=1) for name in ("resnet14", "resnet8")]
    weights = {"kd": 10 / 20, "classes": 100 / 20, "instances": 1000 / 10}  # of a batch of 20 and 10 labels
    method = create_method("l2d", teacher=nets[0], student=nets[1], task="multilabel", **weights)
    batch = next(iter(loader_for(mosaics.train, 20).epoch(0)))
    losses = check(method, batch)
    known, truth = losses.knowledge, batch.labels
    own, theirs = (known[f"{name}.label_embeddings"] for name in ("student", "teacher"))
    assert torch.allclose(own.sum(2) + nets[1].classifier.bias, known["student.label_logits"], atol=1e-5)
    published = (
        binary_cross_entropy(known["student.label_logits"], truth, "sum")
        + 10 * BinaryKL()(known["student.label_logits"], known["teacher.label_logits"])
        + 100 * class_structure(own, theirs, truth, "sum")
        + 1000 * instance_structure(own, theirs, truth, "sum")
    )
    assert losses.total.item() == pytest.approx(published.item() / 200, rel=1e-5)
    assert all(term > 0 for term in losses.terms.values())


@pytest.mark.parametrize("name", ["resnet8", "vgg8", "timm/vit_tiny_patch16_224"])
def test_networks_of_the_zoo_and_of_libraries_learn_labels(name, mosaics):
    if name.startswith("timm"):
        pytest.importorskip("timm")
    learns(name, mosaics)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in list_models() if "/" not in name and name not in ("csinet", "csrnet")]
)
def test_all_networks_of_the_zoo_learn_labels(name, mosaics):
    learns(name, mosaics)


@pytest.mark.parametrize(
    ("task", "data", "message"),
    [
        ("classification", SMALL, "have any number of labels; give task=multilabel"),
        ("multilabel", {"name": "digits"}, "have one class each; give task=classification"),
        ("multilabel", {**SMALL, "unlabelled": "more"}, "data.unlabelled is for images of one class"),
        ("multilabel", {**SMALL, "empty": 1.0}, r"empty in \[0, 1\)"),
    ],
)
def test_other_data_than_the_tasks_are_one_line(task, data, message):
    recipe = read_recipe(data=data, task=task)
    with pytest.raises(AttarError, match=message):
        task_of(recipe).load(recipe)


@pytest.mark.parametrize("name", ["kd", "l2d"])
@pytest.mark.parametrize("count", [1, 6])
def test_a_loop_of_the_users_gives_booleans_for_each_label(name, count):
    nets = [create_model(net, num_classes=count, in_channels=1) for net in ("resnet14", "resnet8")]
    method = create_method(name, teacher=nets[0], student=nets[1], task="multilabel").train()
    images, labels = torch.randn(5, 1, 8, 8), torch.rand(5, count) > 0.5
    expected = copy.deepcopy(method).batch_losses(Batch(images, labels)).total
    assert torch.equal(method.losses(images, labels).total, expected)
    with pytest.raises(AttarError, match=r"shape \(5, \d\), the labels \(5,\); give every image true or false"):
        method.losses(images, labels[:, 0])


def test_class_numbers_given_as_objects_are_one_line(mosaics):
    loss = create_task("multilabel").supervise()
    with pytest.raises(AttarError, match="give every image true or false for each label"):
        loss(torch.zeros(2, 3), torch.tensor([0, 1]))
