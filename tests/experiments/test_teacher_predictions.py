"""Whom students are compared with says everything once, and the comparison is the one with the network itself."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

from attar.data import eval_batches, load_data
from attar.experiments import launch
from attar.experiments.teacher_predictions import TeacherPredictions
from attar.metrics import evaluate
from attar.models import create_model
from attar.recipe import read_recipe


class Counting(nn.Module):
    """A network that counts its passes."""

    def __init__(self) -> None:
        super().__init__()
        self.net = create_model("resnet8", num_classes=10, in_channels=1, image_size=8)
        self.passes = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        return self.net(images)


@pytest.fixture(scope="module")
def images():
    return load_data("digits").test


def scored(teacher_predictions: TeacherPredictions, images, student: nn.Module):
    teacher_predictions.begin(images)
    return evaluate(student, eval_batches(images, 250), teacher=teacher_predictions)


def test_every_batch_is_computed_once_and_compared_as_the_network_itself(images) -> None:
    net, student = Counting().to(memory_format=torch.channels_last), Counting()
    teacher_predictions = TeacherPredictions(net)
    truth = evaluate(student, eval_batches(images, 250), teacher=net)
    computed = net.passes
    assert [scored(teacher_predictions, images, student) for _ in range(3)] == [truth] * 3
    assert net.passes == 2 * computed
    assert truth.kl > 0


def test_the_layout_of_the_weights_is_that_of_training_whoever_placed_them_before(images) -> None:
    """Runs of one process share the outputs, and convolutions round by the layout."""
    net = create_model("resnet8", num_classes=10, in_channels=1, image_size=8)
    layouts = []
    net.conv1.register_forward_pre_hook(
        lambda *_: layouts.append(net.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last))
    )
    for layout in (torch.contiguous_format, torch.channels_last):
        scored(TeacherPredictions(net.to(memory_format=layout)), images, Counting())
    assert layouts
    assert all(layouts)


def test_other_weights_and_other_images_are_computed_again(images) -> None:
    net, student = Counting(), Counting()
    teacher_predictions = TeacherPredictions(net)
    first = scored(teacher_predictions, images, student)
    with torch.no_grad():
        net.net.classifier.weight.neg_()
    assert (
        scored(teacher_predictions, images, student).kl
        == evaluate(student, eval_batches(images, 250), teacher=net).kl
        != first.kl
    )
    fewer = images.subset(torch.arange(100))
    assert scored(teacher_predictions, fewer, student) == evaluate(student, eval_batches(fewer, 250), teacher=net)


def test_a_pass_that_broke_off_is_taken_up(images) -> None:
    net = Counting()
    teacher_predictions = TeacherPredictions(net)
    teacher_predictions.begin(images)
    teacher_predictions(next(iter(eval_batches(images, 250))).inputs)
    student = Counting()
    assert scored(teacher_predictions, images, student) == evaluate(student, eval_batches(images, 250), teacher=net)


def test_a_job_shows_its_teacher_the_test_set_once(tmp_path: Path, monkeypatch) -> None:
    shown, forward = [], TeacherPredictions.forward

    def counted(self: TeacherPredictions, batch: torch.Tensor) -> torch.Tensor:
        before = len(self._batches)
        printed = forward(self, batch)
        shown.append(len(self._batches) > before)
        return printed

    monkeypatch.setattr(TeacherPredictions, "forward", counted)
    values = {"data": {"train_size": 60}, "epochs": 1, "seeds": 2, "batch_size": 20, "precision": "float32"}
    weights = create_model("resnet14", num_classes=10, in_channels=1, image_size=8)
    torch.save(weights.state_dict(), tmp_path / "teacher.pth")
    teacher = {"name": "resnet14", "weights": str(tmp_path / "teacher.pth")}
    summary = launch.start(
        read_recipe(teacher=teacher, student="resnet8", out=str(tmp_path / "run"), **values),
        Console(file=io.StringIO()),
    )
    batches = len(list(eval_batches(load_data("digits").test, 250)))
    assert len(shown) == 5 * batches  # the teacher itself, and two students of two seeds
    assert sum(shown) == batches
    assert summary.teachers[0].scores["agreement"] is None
    assert summary.runs[0]["student"].scores["agreement"] is not None
