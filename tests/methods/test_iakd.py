"""IAKD: which stages run, where the gradient goes, and how often a stage is replaced."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from attar.batch import Address, Batch
from attar.errors import AttarError
from attar.methods import create_method
from attar.methods.iakd import IAKD
from attar.models import Layout, Staged, create_model


class Scalars(Staged):
    """Stages that multiply by a number."""

    def __init__(self, *factors: float) -> None:
        super().__init__(Layout((), ("first", "second"), ("head",)))
        self.first, self.second, self.head = (nn.Conv2d(1, 1, 1, bias=False) for _ in range(3))
        for layer, factor in zip((self.first, self.second, self.head), (*factors, 1.0), strict=True):
            nn.init.constant_(layer.weight, factor)
        self.input_shape = (1, 1, 1)

    def stem(self, images):
        return images

    def output(self, final, pooled):
        return self.head(final).flatten(1)


def scalars(**options):
    return IAKD(Scalars(5, 7), Scalars(2, 3), **options).train()


def output_of(method, batch):
    return method.run(batch)["student.logits"].item()


def test_the_four_outcomes_and_their_mean():
    method = scalars(swap=0.5, schedule="uniform")
    one = Batch(torch.ones(1, 1, 1, 1), torch.tensor([0]))
    found = [output_of(method, replace(one, address=Address(0, 0, step))) for step in range(400)]
    assert set(found) == {6, 14, 15, 35}
    assert sum(found) / 400 == pytest.approx(17.5, abs=1.5)


def networks():
    torch.manual_seed(0)
    return [create_model(name, num_classes=4, image_size=8) for name in ("resnet14", "resnet8")]


def batch():
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return Batch(images, torch.tensor([0, 1, 2, 3]))


def test_without_swaps_it_is_the_student():
    teacher, student = networks()
    method = IAKD(teacher, student, swap=0.0)
    assert torch.equal(method.run(batch())["student.logits"], student(batch().inputs))
    always = IAKD(teacher, student, swap=1.0, schedule="uniform").eval()
    assert torch.equal(always.run(batch())["student.logits"], student.eval()(batch().inputs))


def test_with_every_stage_replaced_only_stem_and_head_learn():
    teacher, student = networks()
    method = IAKD(teacher, student, swap=1.0, schedule="uniform").train()
    found = method.batch_losses(batch())
    expected = student.classifier(
        student.average(teacher.resume(student.stem(batch().inputs), taps=("final",)).tap("final"))
    )
    torch.testing.assert_close(found.knowledge["student.logits"], expected)
    found.total.backward()
    for name, parameter in student.named_parameters():
        replaced = name.split(".")[0] in student.layout.stages
        assert (parameter.grad.abs().sum() == 0) == replaced, name
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("uniform", [0.5, 0.5, 0.5, 0.5, 0.5]),
        ("linear", [0.5, 0.5 * (1 - 149 / 239), 0.5 * (1 - 150 / 239), 0.5 * (1 - 179 / 239), 0.0]),
        ("review", [0.5, 0.0, 0.5, 0.0, 0.0]),
    ],
)
def test_schedules(schedule, expected):
    method = scalars(schedule=schedule)
    assert [method.probability(epoch, 240) for epoch in (0, 149, 150, 179, 239)] == pytest.approx(expected)
    assert method.probability(0, 1) == method.probability(5, 1) == 0.5


def test_networks_that_do_not_fit():
    small = create_model("resnet8", num_classes=4, image_size=8)
    wide = create_model("resnet8x4", num_classes=4, image_size=8)
    vgg = create_model("vgg8", num_classes=4, image_size=32)
    with pytest.raises(AttarError, match=r"no stage has equal shapes .* resnet56 -> resnet20"):
        create_method("iakd", teacher=wide, student=small)
    with pytest.raises(AttarError, match="the teacher has 4 stages, the student 3"):
        create_method("iakd", teacher=vgg, student=small)
    with pytest.raises(AttarError, match="swap=2 is no probability"):
        scalars(swap=2)
