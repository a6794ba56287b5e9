"""A training that is shown images without labels beside the labelled ones."""

import io
import json
import signal
from dataclasses import replace

import pytest
import torch
from PIL import Image
from rich.console import Console

import attar
from attar.batch import Batch
from attar.data import Splits, load_data
from attar.errors import AttarError
from attar.experiments.build import Parts, held_for
from attar.experiments.input_warnings import overlap
from attar.experiments.training import Training
from attar.knowledge import Knowledge, Losses
from attar.models import create_model
from attar.recipe import read_recipe
from attar.tasks import Classification
from attar.teachers.cached_loader import with_cached_logits
from attar.train.running_means import RunningMeans
from sweeps import first_of


@pytest.fixture(scope="module")
def digits():
    """60 labelled digits and 50 without labels."""
    splits = load_data("digits", val_fraction=0, train_size=60)
    more = splits.test.subset(torch.arange(50))
    return replace(
        splits,
        test=splits.test.subset(torch.arange(50, 100)),
        unlabelled=replace(more, labels=torch.full((50,), -1), name="more"),
    )


@pytest.fixture
def joined(training, digits):
    """A training of kd whose batches have 16 labelled and 9 unlabelled images."""

    class Joined(training):
        def new_loader(self):
            settings = {"augment": self.splits.augment, "epochs": self.recipe.epochs, "unlabelled_batch": 9}
            return type(super().new_loader())(self.splits.train, 16, unlabelled=digits.unlabelled, **settings)

    return Joined


@pytest.mark.parametrize(
    ("epoch", "step", "how"), first_of([(1, 1, "crash"), (0, 1, signal.SIGTERM), (1, 2, signal.SIGINT)])
)
def test_resumed_equals_uninterrupted(joined, resuming_changes, epoch, step, how):
    assert resuming_changes(joined, epoch, step, how) == []


def test_accuracy_is_that_of_the_labelled_rows():
    running = RunningMeans(Classification())
    for right in (2, 3):
        labels = torch.tensor([0] * 4 + [-1] * 8)
        logits = torch.nn.functional.one_hot(torch.tensor([0] * right + [1] * (12 - right)), 2).float()
        batch = Batch(torch.zeros(12, 1, 2, 2), labels, labelled=4)
        running.add(Losses(torch.ones(()), {}, {}, Knowledge(batch, student=logits)), batch)
    assert running.means()["train_top1"] == pytest.approx(100 * 5 / 8)
    assert float(running.sums["images"]) == 24


def run(folder, data, **values):
    message = io.StringIO()
    given = {"method": "kd", "epochs": 1, "batch_size": 20, "precision": "float32", "optim": {"lr": 0.05}, **values}
    nets = {name: create_model(net, num_classes=10, in_channels=1, image_size=8) for name, net in NETS.items()}
    with torch.random.fork_rng(devices=[]):
        attar.distill(data=data, out=str(folder), console=Console(file=message, width=200), **nets, **given)
    return message.getvalue()


NETS = {"teacher": "resnet14", "student": "resnet8"}


def record(folder):
    return json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])


def test_a_run_shows_them_to_the_method_and_not_to_the_baseline(digits, tmp_path):
    torch.manual_seed(0)
    message = run(tmp_path / "with", digits)
    assert "kd: 50 unlabelled images join, 20 in each batch beside 20 labelled ones" in message
    assert "alone: learns from labels alone, without the 50 unlabelled images" in message
    torch.manual_seed(0)
    run(tmp_path / "without", replace(digits, unlabelled=None))
    folders = tmp_path / "with", tmp_path / "without"
    one, other = (record(folder / "alone") for folder in folders)
    assert one == other
    one, other = (record(folder)["terms"]["teacher.logits->student.logits"] for folder in folders)
    assert one != other


def test_a_teacher_s_cache_says_that_it_is_not_used(joined, tmp_path):
    one, message = joined(tmp_path), []
    recipe = replace(one.recipe, teacher=replace(one.recipe.teacher, cache=str(tmp_path / "cache")))
    assert (
        with_cached_logits(one.loader, one.method, recipe, one.splits.train, one.runtime, message.append) is one.loader
    )
    assert message[0].startswith("no teacher cache: ")


def test_a_method_that_cannot_is_refused_before_anything_is_written(digits, tmp_path):
    with pytest.raises(AttarError, match="method 'dkd' cannot learn from images without labels"):
        run(tmp_path / "run", digits, method="dkd")
    assert not (tmp_path / "run").exists()


def test_test_images_among_them_are_counted(digits):
    leaking = replace(digits.unlabelled, images=torch.cat([digits.test.images[:4], digits.unlabelled.images[4:]]))
    assert overlap(digits.train, digits.test, digits.unlabelled) is None
    message = overlap(digits.train, digits.test, leaking)
    assert message.startswith(
        "4 of the 50 test images are in the training set or among the unlabelled images, byte for"
    )


@pytest.fixture
def folders(tmp_path):
    for number in range(40):
        file = tmp_path / ("labelled" if number < 24 else "more") / ("cat", "dog")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(file)
    return tmp_path


def test_a_recipe_names_the_folder_and_seeds_share_it(folders):
    data = {"name": str(folders / "labelled"), "unlabelled": str(folders / "more"), "image_size": 8}
    recipe = read_recipe(data=data, seeds=2, overrides=["data.val_fraction=0.2"])
    parts = Parts(recipe, held_for(recipe))
    first, second = parts.splits(0), parts.splits(1, train_size=8)
    assert isinstance(first, Splits)
    assert len(first.unlabelled) == 16
    assert second.unlabelled is first.unlabelled
    assert (len(first.train), len(second.train)) == (15, 8)


def test_a_number_without_images_is_refused(tiny, tmp_path):
    one, recipe = tiny(), read_recipe(batch_size=16, data={"unlabelled_batch": 4})
    with pytest.raises(AttarError, match=r"data.unlabelled_batch=4 has no images; give data.unlabelled=FOLDER"):
        Training(one.method, one.splits, recipe, tmp_path, "kd")
    with pytest.raises(AttarError, match=r"data.unlabelled_batch must be above 0, got 0"):
        read_recipe(data={"unlabelled_batch": 0})
