"""Several teachers of methods that read logits or pooled features: how they are joined and weighed."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import attar
from attar import losses
from attar.accel.compiled_steps import Compiled
from attar.batch import Address, Batch
from attar.conformance import check
from attar.data.loading.batch_slice import Part
from attar.errors import AttarError
from attar.methods import list_methods, method_info
from attar.methods.common.teacher_rules import ranks, read_rule

S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]], dtype=torch.float64)
T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]], dtype=torch.float64)
U = torch.tensor([[1.0, 1.5, 0.0], [0.0, 3.0, 1.0]], dtype=torch.float64)
Y = torch.tensor([0, 1])
IMAGES = torch.zeros(2, 3, 8, 8)
EDGE = "teacher.logits->student.logits"
ONE = torch.ones(2, dtype=torch.float64)


class Constant(nn.Module):
    """A network whose logits are a parameter."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits.clone())

    def forward(self, images):
        return self.logits


def built(name="kd", **options):
    return attar.create_method(name, teacher=[Constant(T), Constant(U)], student=Constant(S), **options)


def learnt_from(shares):
    """T^2 KL from the teachers' logits, each row's added with its shares (teachers, rows)."""
    return losses.kl_divergence(S, shares[0][:, None] * T + shares[1][:, None] * U, 4.0).item()


@pytest.mark.parametrize(
    ("rule", "shares"),
    [
        (None, [0.5 * ONE, 0.5 * ONE]),
        ("mean", [0.5 * ONE, 0.5 * ONE]),
        ("fixed(3, 1)", [0.75 * ONE, 0.25 * ONE]),
        ("entropy", [torch.tensor([0.634974, 0.386487]), torch.tensor([0.365026, 0.613513])]),
        ("confidence", [torch.tensor([0.716065, 0.446944]), torch.tensor([0.283935, 0.553056])]),
        # The first teacher finds the second image harder.
        ("routed(1)", [torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])]),
        ("routed(9)", [ONE, 0 * ONE]),
    ],
)
def test_shares_by_value(rule, shares):
    options = {"teachers": rule} if rule else {}
    found = built(**options).losses(IMAGES, Y, epoch=0, epochs=9, step=0)
    assert found[EDGE].item() == pytest.approx(learnt_from(shares), abs=1e-6)
    torch.testing.assert_close(found.knowledge["teacher.logits"], shares[0][:, None] * T + shares[1][:, None] * U,
                               atol=1e-5, rtol=0, check_dtype=False)  # fmt: skip


def test_dropped_teachers_are_drawn_by_the_step_and_one_stays():
    method = built(teachers="dropped(0.5)")
    seen = [method.losses(IMAGES, Y, epoch=0, step=step)[EDGE].item() for step in range(40)]
    expected = [learnt_from(shares) for shares in ((ONE, 0 * ONE), (0 * ONE, ONE), (0.5 * ONE, 0.5 * ONE))]
    assert {round(one, 6) for one in seen} == {round(one, 6) for one in expected}
    assert method.losses(IMAGES, Y, epoch=0, step=3)[EDGE].item() == seen[3]


def test_images_without_a_label_have_their_teachers_alike():
    shares = read_rule("confidence", 2).shares(Batch(IMAGES, torch.tensor([0, -1]), labelled=1), [T, U])
    torch.testing.assert_close(shares[:, 1], torch.tensor([0.5, 0.5]).double())
    assert shares[0, 0].item() == pytest.approx(0.716065, abs=1e-6)


def test_mixed_labels_weigh_by_their_probabilities():
    mixed = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    shares = read_rule("confidence", 2).shares(Batch(IMAGES, mixed, mixed=True), [T, U])
    each = torch.stack([-(mixed * one.log_softmax(1)).sum(1) for one in (T, U)])
    torch.testing.assert_close(shares, 1 - each.softmax(0))


def nets(*names):
    return [attar.create_model(name, num_classes=5, image_size=8) for name in names]


def checked(name, rule="mean"):
    """A method of two teachers of different widths, after the check before every run."""
    one, other, student = nets("resnet8x4", "resnet14", "resnet8")
    method = attar.create_method(name, teacher=[one, other], student=student, teachers=rule)
    labels, images = torch.arange(12) % 5, torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    method.setup(labels)
    batch = Batch(images, labels, torch.arange(12), epochs=2, views=dict.fromkeys(method.views(), images + 0.1))
    check(method, batch)
    return method, batch, (one, other)


@pytest.mark.parametrize("name", ["dkd", "crd", "kd+rkd"])
def test_methods_of_one_teacher_take_several(name):
    checked(name, "entropy")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in list_methods() if method_info(name).takes_teachers])
def test_every_method_of_logits_or_pooled_features_takes_several(name):
    if not method_info(name).cls.many_teachers:
        checked(name, "confidence")


def test_pooled_features_stand_side_by_side():
    method, batch, (one, other) = checked("rkd")
    known = method.batch_losses(batch).knowledge["teacher.pooled"]
    parts = [attar.models.observe(net, batch.images, ["pooled"]).tap("pooled") for net in (one, other)]
    torch.testing.assert_close(known, torch.cat(parts, 1))


def test_each_teacher_keeps_its_own_cached_logits():
    method, batch, _ = checked("kd")
    first, second = method.frozen()
    first.set_output(batch.inputs, attar.knowledge.Output(torch.zeros(12, 5)))
    second.set_output(batch.inputs, attar.knowledge.Output(torch.full((12, 5), 2.0)))
    assert torch.equal(method.batch_losses(batch).knowledge["teacher.logits"], torch.ones(12, 5))


@pytest.mark.parametrize(("name", "options"), [("kdig", {"p": 1.0, "steps": 3}), ("pasm", {"erase": 1.0})])
def test_attributions_are_of_the_teachers_as_they_are_weighed(name, options):
    one, other, student = nets("resnet8x4", "resnet14", "resnet8")
    images, labels = torch.randn(6, 3, 8, 8), torch.arange(6) % 5

    def total(teacher, rule=None):
        method = attar.create_method(name, teacher=teacher, student=student, teachers=rule, **options)
        return method.losses(images, labels, epoch=0, epochs=1, step=0).total.item()

    assert total([one, other], "fixed(1, 0)") == pytest.approx(total(one), rel=1e-6)
    assert total([one, other], "fixed(0, 1)") == pytest.approx(total(other), rel=1e-6)


def test_the_batch_is_not_kept():
    method, batch, _ = checked("kd")
    method.batch_losses(batch)
    assert method.teacher.batch is None
    with pytest.raises(AttarError, match="weighed by a batch"):
        method.run(batch)


def test_draws_of_the_same_address_agree():
    rule = read_rule("dropped(0.3)", 2)
    shares = [rule.shares(Batch(IMAGES, Y, address=Address(1, 2, 3)), [T, U]) for _ in range(2)]
    assert torch.equal(*shares)


@pytest.mark.parametrize(
    ("name", "rule", "message"),
    [
        ("at", None, "takes one teacher, got 2, because it reads stages"),
        ("okd", None, "takes one teacher, got 2, because it adds modules to it"),
        ("kd", "mode", "did you mean 'mean'"),
        ("kd", "fixed(1)", "give 2 weights"),
        ("kd", "dropped(0)", "above 0 and at most 1"),
        ("kd", "entropy(3)", "entropy takes no numbers"),
        ("kd", "routed(-1)", "0 or more"),
        ("averkd", "mean", "weighs several teachers by its own rule"),
    ],
)
def test_what_does_not_go_is_an_error(name, rule, message):
    one, other, student = nets("resnet8", "resnet14", "resnet8")
    with pytest.raises(AttarError, match=message):
        attar.create_method(name, teacher=[one, other], student=student, teachers=rule)


def test_joined_methods_share_their_rule():
    one, other, student = nets("resnet8", "resnet14", "resnet8")
    with pytest.raises(AttarError, match=r"method\.kd\.teachers: joined methods share their teachers; give method\.t"):
        attar.create_method("kd+rkd", teacher=[one, other], student=student, kd={"teachers": "mean"})
    with pytest.raises(AttarError, match="'camkd' has a teacher of its own"):
        attar.create_method("camkd+rkd", teacher=[one, other], student=student)


def test_a_rule_needs_several_teachers():
    one, student = nets("resnet8", "resnet8")
    with pytest.raises(AttarError, match="give teacher=A,B"):
        attar.create_method("kd", teacher=one, student=student, teachers="mean")


@pytest.mark.slow
def test_compiled_steps_weigh_teachers_by_the_batch():
    method, batch, _ = checked("kd", "confidence")
    step = Compiled(method)
    for labels in (batch.labels, (batch.labels + 1) % 5):
        turned = replace(batch, labels=labels)
        assert step(turned).total.item() == pytest.approx(method.batch_losses(turned).total.item(), rel=1e-4)


def test_rows_are_ranked_in_the_whole_batch_of_several_processes():
    hardness = torch.tensor([0.3, 2.0, 0.1, 0.2, 5.0])
    whole = Batch(torch.zeros(5, 1), torch.zeros(5))
    parts = [
        Part(rows := torch.zeros(stop - start, 1), rows[:, 0], start=start, count=5, gather=lambda _: hardness)
        for start, stop in ((0, 2), (2, 5))
    ]
    shared = [ranks(hardness[part.start : part.start + len(part)], part) for part in parts]
    torch.testing.assert_close(torch.cat(shared), ranks(hardness, whole))
