"""Images without labels: edges from labels see none of them, the others all, and who cannot do that is refused."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from attar.batch import Batch
from attar.conformance import check
from attar.conformance.cases import NARROW
from attar.conformance.unlabelled_batches import FIT, check_unlabelled, learns_without_labels
from attar.errors import AttarError
from attar.knowledge import Knowledge, Transfer, owner
from attar.losses import MSE, CrossEntropy, KLDivergence
from attar.methods import Offline, create_method, method_info
from attar.models import create_model
from sweeps import installed_methods

LABELLED, ROWS = 5, 12


def networks():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [create_model(name, num_classes=6, image_size=8, **NARROW) for name in ("resnet14", "resnet8")]


def make(name, **options):
    teacher, student = networks()
    takes = method_info(name).needs_teacher
    method = create_method(name, student=student, teacher=teacher if takes else None, **options).train()
    method.setup(torch.arange(ROWS) % 6)
    return method


def batch(dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(ROWS, 3, 8, 8, generator=generator).to(dtype)
    labels = torch.randint(6, (ROWS,), generator=generator)
    labels[LABELLED:] = -1
    views = {"strong": images.flip(3)}
    return Batch(images, labels, torch.arange(ROWS), epochs=2, labelled=LABELLED, views=views)


def independent(name, knowledge):
    """The loss from its formula: labels for the first rows, the teacher for all."""
    student, teacher = knowledge["student.logits"], knowledge["teacher.logits"]
    true = knowledge["labels"][:LABELLED]
    ce = -student[:LABELLED].log_softmax(1)[torch.arange(LABELLED), true].mean()
    if name == "kd":
        p, q = (teacher / 4).softmax(1), (student / 4).softmax(1)
        return 0.1 * ce + 0.9 * 16 * (p * (p / q).log()).sum(1).mean()
    total = ce
    for number in (1, 2, 3):
        own, theirs = (
            F.normalize(knowledge[f"{one}.stage{number}"].square().mean(1).flatten(1)) for one in ("student", "teacher")
        )
        total = total + 1000 * (own - theirs).square().mean()
    return total


@pytest.mark.parametrize("name", ["kd", "at"])
def test_losses_and_gradients_equal_the_formula_in_float64(name):
    method = make(name).double()
    method.edges  # noqa: B018 - requests the taps
    losses = method.batch_losses(batch(torch.float64))
    expected = independent(name, losses.knowledge)
    parameters = list(method.parameters())
    got = torch.autograd.grad(losses.total, parameters, retain_graph=True)
    assert losses.total.dtype == torch.float64
    torch.testing.assert_close(losses.total, expected, rtol=1e-10, atol=0)
    for one, other in zip(got, torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-12)


def test_losses_inside_a_loop_of_ones_own():
    method, given = make("kd"), batch()
    inside = method.losses(given.inputs, given.labels, labelled=LABELLED)
    assert torch.equal(inside.total, method.batch_losses(given).total)


@pytest.mark.parametrize("name", FIT)
def test_those_that_the_message_names_can(name):
    method = make(name)
    check(method, batch())
    assert learns_without_labels(method)


def given_labels(method):
    """Whether an edge between networks is handed the labels."""
    return any("labels" in edge.given and owner(edge.source) != "labels" for edge in method.edges)


@pytest.mark.slow
def test_who_cannot_is_known_for_every_method():
    refused, methods = [], {name: make(name) for name in installed_methods()}
    for name, method in methods.items():
        try:
            check_unlabelled(method, batch())
        except AttarError:
            refused.append(name)
    # Some read labels in their forward pass: memories, ranks, attributions, the shares of rsd's mixing.
    elsewhere = {"angularkd", "ceskd", "crd", "kdcl", "kdig", "pasm", "pskd", "rsd"}
    expected = {*elsewhere, *(name for name, method in methods.items() if given_labels(method))}
    # With its default exponent of 1 the labels cancel out of ofa's loss, up to rounding.
    assert {*refused, "ofa"} == expected


@pytest.mark.parametrize(
    ("name", "options", "edge"),
    [
        ("dkd", {}, "teacher.logits->student.logits"),
        ("unikd", {"profile": "code"}, "teacher.logits->student.logits"),
        ("rsd", {}, "labels.mixed->mixed_full.logits"),
    ],
)
def test_who_reads_labels_elsewhere_is_refused(name, options, edge):
    with pytest.raises(AttarError) as caught:
        check(make(name, **options), batch())
    assert f"method {name!r} cannot learn from images without labels: its edge {edge!r} reads" in str(caught.value)
    assert "choose one that does not (kd, at, rkd, " in str(caught.value)


def test_the_same_methods_can_where_nothing_but_labels_edges_reads_them():
    for name, options in (("unikd", {"logits": "kd"}), ("rsd", {"mixture": False}), ("uakd", {})):
        check(make(name, **options), batch())


class Plain(Offline):
    """A method that can; what is below breaks it."""

    name = "mine"

    def transfers(self):
        yield Transfer("labels", "student.logits", CrossEntropy())
        yield Transfer("teacher.logits", "student.logits", KLDivergence())


class InItsForward(Plain):
    def run(self, batch):
        printed = super().run(batch)
        right = F.one_hot(batch.labels.clamp_min(0), 6).float()
        return Knowledge(batch, student=printed["student.logits"], teacher=printed["teacher.logits"] + right)


class InAnEdgeOfItsOwn(Plain):
    def transfers(self):
        class Own(Transfer):
            def __call__(self, knowledge):
                return self.loss(knowledge[self.target], knowledge[self.source])

        yield Own("labels", "student.logits", CrossEntropy())
        yield Transfer("teacher.logits", "student.logits", KLDivergence())


@pytest.mark.parametrize("broken", [InItsForward, InAnEdgeOfItsOwn])
def test_labels_that_are_read_out_of_sight_are_found(broken):
    check_unlabelled(Plain(*networks()).train(), batch())
    with pytest.raises(AttarError, match="method 'mine' cannot learn from images without labels"):
        check_unlabelled(broken(*networks()).train(), batch())


def test_trying_leaves_the_method_and_the_generator_as_they_were():
    method = make("dml")
    before, state = {name: one.clone() for name, one in method.state_dict().items()}, torch.get_rng_state()
    check_unlabelled(method, batch())
    assert all(torch.equal(one, before[name]) for name, one in method.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_rows_that_are_not_the_batch_s_are_refused():
    given = batch()
    twice = Knowledge(given, student=torch.zeros(2 * ROWS, 6)).add("labels.twice", given.labels.repeat(2))
    with pytest.raises(AttarError, match=r"'labels.twice->student.logits' compares \(24, 6\) with the labels of 12"):
        Transfer("labels.twice", "student.logits", CrossEntropy())(twice)
    assert Transfer("labels.twice", "student.logits", MSE())(
        Knowledge(replace(given, labelled=None), student=torch.ones(2, 6)).add("labels.twice", torch.zeros(2, 6))
    )
