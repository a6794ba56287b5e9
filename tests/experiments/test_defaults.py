"""Settings that nobody gave: chosen from the student and the size of the data, and named in a line."""

import io

import pytest
import torch
from rich.console import Console
from torch import nn

import attar
from attar.data import ImageSet
from attar.experiments import defaults, launch
from attar.experiments.defaults import with_defaults
from attar.experiments.given_objects import Given
from attar.experiments.shared_resources import SharedResources
from attar.models import create_model
from attar.profiling import held_memory
from attar.recipe import given_keys, read_recipe


def net():
    return create_model("resnet8", 10, 3, 8)


class Transformer(nn.Module):
    """Layer norms and no batch norms."""

    def __init__(self):
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(4), nn.Linear(4, 10)


def chosen(keys, samples, student=None):
    recipe = read_recipe(overrides=["student=resnet8", "device=cpu", *keys])
    images = torch.zeros(1, 3, 8, 8, dtype=torch.uint8).expand(samples, -1, -1, -1)
    train = ImageSet(images, torch.zeros(samples).long(), tuple("0123456789"), "blank", (0.5,) * 3, (0.5,) * 3)
    return with_defaults(recipe, given_keys(overrides=keys), train, student or net())


def test_many_samples_keep_the_settings_of_before():
    recipe, line = chosen([], 50_000)
    assert line == ""
    assert recipe == read_recipe(student="resnet8", device="cpu")


def test_few_samples_get_smaller_batches_and_more_epochs():
    recipe, line = chosen([], 700)
    assert (recipe.batch_size, recipe.optim.lr, recipe.epochs) == (32, 0.05, 60)
    assert line == "chosen: lr 0.05, batch 32, 60 epochs, for 700 samples to train on"


def test_what_was_given_stays():
    recipe, line = chosen(["batch_size=128", "epochs=3", "optim.lr=0.3"], 700)
    assert (recipe.batch_size, recipe.optim.lr, recipe.epochs, line) == (128, 0.3, 3, "")
    assert chosen(["batch_size=64", "epochs=3"], 700)[0].optim.lr == 0.2


def test_activations_of_a_batch_are_limited_on_a_cpu(monkeypatch):
    held = held_memory(net(), (3, 8, 8))
    assert 20_000 < held < 200_000
    monkeypatch.setattr(defaults, "MOST_HELD", 40 * held)
    recipe, line = chosen(["epochs=10"], 50_000)
    assert (recipe.batch_size, recipe.optim.lr) == (32, 0.05)
    assert line == "chosen: lr 0.05, batch 32, for 0.042 MB of activations a sample"
    assert chosen(["batch_size=128"], 50_000)[0].batch_size == 128


def test_a_student_that_starts_from_its_teachers_layers_gets_them_too():
    recipe = read_recipe(
        teacher="resnet14", student={"name": "resnet8", "weights": "teacher"}, data={"name": "digits", "train_size": 60}
    )
    found = launch.completed(recipe, set(), Given(), SharedResources(), Console(quiet=True))
    assert (found.batch_size, found.optim.lr, found.student) == (8, 0.0013, recipe.student)


def test_a_network_that_does_not_run_is_named_when_a_batch_is_tried():
    assert chosen([], 50_000, nn.Linear(3, 10))[1] == ""


def test_a_student_with_weights_moves_less():
    recipe, line = chosen(["student.weights=resnet8.pth", "epochs=10"], 50_000)
    assert recipe.optim.lr == 0.02
    assert line == "chosen: lr 0.02, for a student with weights"


def test_a_network_of_layer_norms_gets_adamw():
    recipe, line = chosen(["epochs=20", "optim.weight_decay=0.1"], 50_000, Transformer())
    optim = recipe.optim
    assert (optim.name, optim.lr, optim.weight_decay, optim.decay_vectors) == ("adamw", 5e-4, 0.1, False)
    assert (optim.schedule, optim.warmup, optim.clip_norm) == ("cosine", 2.0, 1.0)
    assert line.startswith("chosen: adamw, lr 0.0005, no decay of norms and biases, cosine")
    assert chosen(["optim.name=sgd", "epochs=20"], 50_000, Transformer())[0].optim.name == "sgd"


@pytest.fixture
def small(tmp_path):
    return {
        "student": "resnet8", "data": {"name": "digits", "train_size": 60}, "precision": "float32",
        "out": str(tmp_path / "run"),
    }  # fmt: skip


def test_a_run_prints_and_keeps_what_it_chose(small, tmp_path):
    output = io.StringIO()
    attar.train_model(**small, epochs=1, console=Console(file=output, width=200))
    assert "chosen: lr 0.0125, batch 8, for 60 samples to train on" in output.getvalue().replace("0.013", "0.0125")
    kept = read_recipe(tmp_path / "run" / "recipe.yaml")
    assert (kept.batch_size, kept.epochs) == (8, 1)


def test_training_stops_when_validation_no_longer_improves(small, tmp_path):
    output = io.StringIO()
    # A rate of almost nothing: the first epoch stays the best.
    attar.train_model(
        **small, epochs=9, batch_size=30, patience=2, optim={"lr": 1e-12}, console=Console(file=output, width=200)
    )
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 3
    assert "stopped after epoch 3: the best validation was after epoch 1" in output.getvalue()


def test_the_rate_of_a_range_test_is_kept(small, tmp_path):
    output = io.StringIO()
    attar.train_model(**small, epochs=1, batch_size=16, optim={"lr": "auto"}, console=Console(file=output, width=200))
    kept = read_recipe(tmp_path / "run" / "recipe.yaml").optim
    assert not kept.range_test
    assert 1e-4 < kept.lr < 0.61
    assert "sgd: lr 0.2 (a range test around it follows), weight decay" in output.getvalue()
    assert f"lr {kept.lr:g}: a tenth of where the loss was lowest in a range test" in output.getvalue()
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True) is not None


def test_a_rate_that_is_found_is_not_below_where_the_schedule_ends(small, tmp_path, monkeypatch):
    monkeypatch.setattr("attar.experiments.job.find_rate", lambda *_: 1e-4)
    attar.train_model(**small, epochs=1, batch_size=16, optim={"lr": "auto", "min_lr": 1e-3})
    assert read_recipe(tmp_path / "run" / "recipe.yaml").optim.lr == 1e-3
