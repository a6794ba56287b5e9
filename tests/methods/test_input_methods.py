"""KD+IG and PASM: what the teacher attributes, and the images the student sees."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from attar.batch import Address, Batch
from attar.errors import AttarError
from attar.methods import create_method
from attar.methods.kdig import attribution_map
from attar.methods.pasm import erased
from attar.models import create_model
from attar.models.attribution import input_gradient, integrated_gradients


def linear(*rows: list[float]) -> nn.Module:
    layer = nn.Linear(len(rows[0]), len(rows), bias=False).double()
    layer.weight = nn.Parameter(torch.tensor(rows, dtype=torch.float64))
    return nn.Sequential(nn.Flatten(), layer)


def test_integrated_gradients_of_a_softmax() -> None:
    net = linear([1.0, 0, 1], [0, 2, -1], [0.5, 0.5, 0])
    x = torch.tensor([2.0, 1, -1], dtype=torch.float64).view(1, 3, 1, 1)
    found = integrated_gradients(net, x, torch.tensor([0])).flatten()
    assert found.tolist() == pytest.approx([0.261547, -0.233710, -0.261547], abs=1e-6)
    assert found.sum().item() == pytest.approx(net(x).softmax(1)[0, 0].item() - 1 / 3, abs=1e-9)
    assert found.sum().item() == pytest.approx(-0.233710, abs=1e-6)
    assert net[1].weight.grad is None
    with pytest.raises(AttarError, match="steps is 0"):
        integrated_gradients(net, x, torch.tensor([0]), steps=0)


def test_the_baseline_is_where_the_path_begins() -> None:
    net = linear([1.0, 0, 1], [0, 2, -1], [0.5, 0.5, 0])
    x, start = torch.randn(4, 3, 1, 1, dtype=torch.float64), torch.full((4, 3, 1, 1), 0.7, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 1])
    change = (net(x).softmax(1) - net(start).softmax(1)).gather(1, labels[:, None]).flatten()
    found = integrated_gradients(net, x, labels, baseline=0.7).flatten(1).sum(1)
    torch.testing.assert_close(found, change, rtol=0, atol=1e-8)


def test_the_point_of_a_linear_classifier_is_its_largest_weight() -> None:
    net = linear([1.0, -2, 3, 0.5], [0, 0, 0, 0])
    x = torch.randn(5, 1, 2, 2, dtype=torch.float64)
    found = input_gradient(net, x, torch.tensor([0, 1, 0, 1, 0]))
    assert found.abs().flatten(1).argmax(1).tolist() == [2] * 5
    expected = net(x).softmax(1)[0, 0].item() - 1
    assert found[0].flatten().tolist() == pytest.approx([expected, -2 * expected, 3 * expected, expected / 2])


def test_squares_are_cut_off_at_the_border() -> None:
    images = torch.ones(3, 2, 5, 5)
    found = erased(images, torch.tensor([0, 12, 24]), 3)
    assert (found == 0).sum((2, 3)).tolist() == [[4, 4], [9, 9], [4, 4]]
    assert (erased(images, torch.tensor([12, 12, 12]), 2)[0, 0] == 0).nonzero().tolist() == [
        [1, 1],
        [1, 2],
        [2, 1],
        [2, 2],
    ]
    assert images.min() == 1


def test_a_map_of_one_value_stays_a_number() -> None:
    images = torch.tensor([[[[0.25, 0.75]]]])
    assert attribution_map(torch.ones(1, 3, 1, 2), torch.ones(1), images).tolist() == [[[[0.25, 0.25]]]]
    stepped = torch.tensor([[[[0.0, 1.0, 2.0]]]])
    found = attribution_map(stepped, torch.tensor([2.0]), torch.tensor([[[[-1.0, 0.0, 3.0]]]]))
    assert found.flatten().tolist() == pytest.approx([-1.0, 0.0, 3.0])


def built(name: str, **options: object):
    torch.manual_seed(0)
    teacher, student = (create_model(net, num_classes=4, image_size=8) for net in ("resnet14", "resnet8"))
    return create_method(name, teacher=teacher, student=student, **options).train()


def batch(size: int = 16) -> Batch:
    images = torch.randn(size, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return Batch(images, torch.arange(size) % 4, address=Address(0, 0, 0))


def test_the_student_sees_the_overlay_and_the_teacher_the_image() -> None:
    method, one = built("kdig", p=1.0, steps=4), batch(3)
    seen = method.overlaid(one)
    overlay = 2 * (seen - 0.5 * one.images)
    torch.testing.assert_close(overlay[:, :1].expand_as(overlay), overlay, rtol=0, atol=1e-6)
    for change, image in zip(overlay, one.images, strict=True):
        torch.testing.assert_close(torch.stack(change.aminmax()), torch.stack(image.aminmax()), rtol=0, atol=1e-6)
    teacher = method.teacher.module
    torch.testing.assert_close(method.run(one)["teacher.logits"], teacher(one.images))
    found = method.batch_losses(one)
    assert {key: round(weight, 4) for key, weight in found.weights.items()} == {
        "labels->student.logits": 0.99,
        "teacher.logits->student.logits": 0.01,
    }
    assert torch.equal(method.eval().overlaid(one), one.images)


def test_pasm_erases_around_the_teachers_point() -> None:
    method, one = built("pasm", erase=1.0, side=0.25), batch()
    seen = method.harder(one)
    points = input_gradient(method.teacher.module, one.images, one.labels).abs().sum(1).flatten(1).argmax(1)
    torch.testing.assert_close(seen, erased(one.images, points, 2))
    assert torch.equal(method.eval().harder(one), one.images)


@pytest.mark.parametrize(("name", "option", "method_name"), [("kdig", "p", "overlaid"), ("pasm", "erase", "harder")])
def test_a_share_of_the_images_is_changed(name: str, option: str, method_name: str) -> None:
    settings = {"steps": 2} if name == "kdig" else {}
    method, one = built(name, **{option: 0.5}, **settings), batch()
    changed = [
        (getattr(method, method_name)(replace(one, address=Address(0, 0, step))) != one.images).flatten(1).any(1)
        for step in range(8)
    ]
    assert 0.35 < torch.stack(changed).float().mean() < 0.65
    assert len({tuple(rows.tolist()) for rows in changed}) == 8
    none = built(name, **{option: 0.0})
    assert getattr(none, method_name)(one) is one.images
    with pytest.raises(AttarError, match=f"{name}: {option}=1.5 is no probability"):
        built(name, **{option: 1.5})


def test_pasm_without_erasing_is_kd() -> None:
    one, kd = batch(), built("kd")
    assert built("pasm", erase=0.0).batch_losses(one).total.item() == kd.batch_losses(one).total.item()


@pytest.mark.parametrize("name", ["kdig", "pasm"])
def test_each_image_needs_one_label(name: str) -> None:
    with pytest.raises(AttarError, match="image's own class"):
        built(name).run(replace(batch(), labelled=4))
