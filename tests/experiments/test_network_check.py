"""Mistakes in names, options and weights are found before any sample is read."""

import pytest
import torch

import attar
from attar.errors import AttarError
from attar.experiments.launch import check_names, prepare
from attar.models import create_model
from attar.recipe import read_recipe


@pytest.fixture
def weights(tmp_path):
    """Weights of a resnet8 of 7 classes for grey images, of a resnet14, and a file that is none."""
    files = {"resnet8": tmp_path / "resnet8.pth", "resnet14": tmp_path / "resnet14.pth", "none": tmp_path / "none.pth"}
    torch.save(create_model("resnet8", 7, 1).state_dict(), files["resnet8"])
    torch.save(create_model("resnet14", 7).state_dict(), files["resnet14"])
    files["none"].write_bytes(b"no weights")
    return files


def recipe(*keys):
    """A recipe whose data are nowhere."""
    return read_recipe(overrides=["data=folder", "data.root=/nowhere", "student=resnet8", *keys])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["teacher=resnet65"], "unknown network"),
        (["teacher=resnet8", "teacher.weights=none.pth"], "no weights at none.pth"),
        (["teacher=resnet8", "teacher.weights=/"], r"/ is a folder, not a weights file; a run's folder is given as"),
        (["teacher=resnet8", "teacher.weights={resnet14}"], "resnet14.pth"),
        (["teacher=resnet8", "teacher.weights={none}"], "cannot read"),
        (["teacher=resnet14", "student.options.widths=wide"], "widths must be"),
        (["teacher=resnet14", "method.temprature=2"], "did you mean 'temperature'"),
        (["teacher=resnet14", "method=kd+at", "method.at.wieght=3"], "did you mean 'weight'"),
    ],
)
def test_a_mistake_is_found_while_the_data_are_nowhere(weights, keys, message):
    with pytest.raises(AttarError, match=message):
        prepare(recipe(*[key.format(**weights) for key in keys]))


def test_weights_of_another_number_of_classes_and_channels_pass(weights):
    check_names(recipe("teacher=resnet8", f"teacher.weights={weights['resnet8']}", "method.temperature=2"))
    with pytest.raises(AttarError, match="nowhere"):
        prepare(recipe("teacher=resnet14", f"student.weights={weights['resnet8']}"))


def test_weights_of_a_function_whose_layers_follow_the_size_are_tried_at_their_own(tmp_path, monkeypatch):
    (tmp_path / "nets_of_a_size.py").write_text(
        "from torch import nn\n\ndef tiny(num_classes, in_channels, image_size):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, num_classes))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    small = {"data": {"name": "digits", "train_size": 40}, "epochs": 1, "batch_size": 20, "precision": "float32"}
    attar.train_model(student="nets_of_a_size:tiny", out=str(tmp_path / "run"), jobs=1, **small)
    values = {"teacher": str(tmp_path / "run"), "student": "nets_of_a_size:tiny", "method": "kd", "alone": "skip"}
    job = prepare(read_recipe(**values, **small, out=str(tmp_path / "kd")))
    assert job.recipe.teacher.name == "nets_of_a_size:tiny"
