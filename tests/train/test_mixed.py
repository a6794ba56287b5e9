"""A training whose images are mixed: exact when resumed, counted honestly, and never with another mixture's cache."""

import io
import json
import signal
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from attar.batch import Batch
from attar.data import DeviceLoader, Mixing
from attar.errors import AttarError
from attar.experiments import launch
from attar.experiments.training import Training
from attar.knowledge import Knowledge, Losses
from attar.models import create_model
from attar.recipe import read_recipe
from attar.tasks import Classification
from attar.teachers.cached_loader import with_cached_logits
from attar.train.running_means import RunningMeans
from sweeps import first_of

BOTH = Mixing(mixup=0.5, cutmix=1.0)


@pytest.fixture
def mixed(training):
    """A training of kd whose images are mixed."""

    class Mixed(training):
        def new_loader(self):
            settings = {"augment": self.splits.augment, "epochs": self.recipe.epochs, "mixing": BOTH}
            return type(super().new_loader())(self.splits.train, 15, **settings)

    return Mixed


@pytest.mark.parametrize(
    ("epoch", "step", "how"), first_of([(1, 1, "crash"), (0, 1, signal.SIGTERM), (1, 2, signal.SIGINT)])
)
def test_resumed_equals_uninterrupted(mixed, resuming_changes, epoch, step, how):
    assert resuming_changes(mixed, epoch, step, how) == []


@pytest.mark.parametrize("labelled", [None, 3])
def test_an_answer_is_right_where_it_names_the_larger_share(labelled):
    labels = torch.tensor([[0.6, 0.4, 0.0], [0.4, 0.6, 0.0], [0.0, 0.1, 0.9], [1.0, 0.0, 0.0]])
    labels[labelled:] *= 0 if labelled else 1
    outputs = torch.nn.functional.one_hot(torch.tensor([0, 0, 2, 0]), 3).float()
    batch, running = (
        Batch(torch.zeros(4, 1, 2, 2), labels, labelled=labelled, mixed=True),
        RunningMeans(Classification()),
    )
    running.add(Losses(torch.ones(()), {}, {}, Knowledge(batch, student=outputs)), batch)
    assert running.means()["train_top1"] == pytest.approx(100 * (2 / 3 if labelled else 3 / 4))


def test_the_recipe_mixes_what_is_trained_and_not_what_it_is_tested_on(tiny, tmp_path):
    one = tiny()
    recipe = read_recipe(batch_size=16, overrides=["data.mixup=0.5", "data.cutmix=1"])
    training = Training(one.method, one.splits, recipe, tmp_path, "kd")
    assert training.loader.mixing == BOTH
    training.try_a_batch()
    assert next(training.loader.epoch(0)).labels.shape == (16, 10)
    assert not Training(one.method, one.splits, read_recipe(batch_size=16), tmp_path, "kd").loader.mixing


@pytest.mark.parametrize("value", [-1, float("inf")])
def test_an_alpha_that_cannot_be_is_refused(value):
    with pytest.raises(AttarError, match=r"data\.cutmix must be 0 or above, got"):
        read_recipe(data={"cutmix": value})


def distil(folder, **values):
    """A tiny distillation on the digits: what it printed."""
    printed, weights = io.StringIO(), folder.parent / "teacher.pth"
    if not weights.exists():
        torch.manual_seed(5)
        torch.save(create_model("resnet14", num_classes=10, in_channels=1, image_size=8).state_dict(), weights)
    keys = {"method": "kd", "student": "resnet8", "epochs": 2, "batch_size": 16, "alone": "skip", **values}
    data = {"name": "digits", "train_size": 41, "val_fraction": 0, "mixup": 0.5, "cutmix": 1, **keys.pop("data", {})}
    teacher = {"name": "resnet14", "weights": str(weights), "cache": str(folder.parent / "cache")}
    recipe = read_recipe(**keys, data=data, teacher=teacher, precision="float32", out=str(folder))
    launch.start(recipe, Console(file=printed, width=200))
    return printed.getvalue()


def test_a_method_that_cannot_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(AttarError, match="method 'dkd' cannot learn from mixed images"):
        distil(tmp_path / "run", method="dkd")
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "cache").exists()


def caches(tmp_path):
    return sorted(file.parent for file in tmp_path.glob("cache/*/key.json"))


def test_a_full_cache_changes_no_bit(tmp_path):
    distil(tmp_path / "first")
    printed = distil(tmp_path / "second")
    assert "0 B to be written" in printed
    assert "is not this teacher's" not in " ".join(printed.split())
    first, second = ((tmp_path / name / "metrics.jsonl").read_text() for name in ("first", "second"))
    assert first == second
    distil(tmp_path / "third", batch_size=12)  # the same pairs, in other batches
    assert len(caches(tmp_path)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"data": {"mixup": 0}}, {"data": {"mixup": 0, "cutmix": 0}}], ids=str)
def test_other_mixtures_look_elsewhere(tmp_path, change):
    distil(tmp_path / "first", epochs=1)
    distil(tmp_path / "other", epochs=1, **change)
    assert len(caches(tmp_path)) == 2


def test_without_mixing_the_key_of_a_cache_is_what_it_was(tmp_path):
    distil(tmp_path / "run", data={"mixup": 0, "cutmix": 0}, epochs=1)
    facts = json.loads((caches(tmp_path)[0] / "key.json").read_text())
    assert not {"mixing", "order"} & facts.keys()


@pytest.mark.parametrize("change", [{}, {"seed": 1}, {"view_seed": 3}, {"shuffle": False}, {"batch_size": 10}], ids=str)
def test_a_cache_never_answers_for_another_mixture(tiny, tmp_path, change):
    """The teacher's logits, read or computed, are those of the mixed images that it is shown."""
    one = tiny()
    recipe = replace(one.recipe, teacher=replace(one.recipe.teacher, cache=str(tmp_path / "cache")))
    for settings in ({}, change):
        settings = {"batch_size": 15, "view_seed": 2, "mixing": BOTH, **settings}
        loader = DeviceLoader(one.splits.train, augment=one.splits.augment, **settings)
        loader = with_cached_logits(loader, one.method, recipe, one.splits.train, one.runtime, lambda line: None)
        teacher = one.method.teacher
        for batch in loader.epoch(0):
            with torch.no_grad():
                torch.testing.assert_close(
                    teacher(batch.inputs).logits, teacher.engine(batch.inputs).logits, rtol=2e-3, atol=2e-3
                )
    assert len(caches(tmp_path)) == (1 if change.keys() <= {"batch_size"} else 2)


def test_some_rows_of_a_batch_keep_their_labels(mixed, tmp_path):
    batch = next(mixed(tmp_path).loader.epoch(0))
    part = batch.rows(slice(3, 7))
    assert torch.equal(part.labels, batch.labels[3:7])
    assert part.labels.shape == (4, 10)
