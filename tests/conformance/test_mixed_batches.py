"""Mixed images: edges from the labels learn shares of two classes, and who reads labels elsewhere is refused."""

import pytest
import torch
from torch.nn import functional as F

from attar.batch import Batch
from attar.conformance import check
from attar.conformance.cases import NARROW
from attar.conformance.mixed_batches import check_mixed
from attar.conformance.unlabelled_batches import FIT
from attar.data.transforms.mixing import mixed_labels
from attar.errors import AttarError
from attar.knowledge import Knowledge, Transfer, owner
from attar.losses import CrossEntropy, KLDivergence
from attar.methods import Offline, create_method, method_info
from attar.models import create_model
from sweeps import installed_methods

ROWS, LABELLED = 12, 8


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


def parts():
    """Own classes, the partners', and the shares."""
    generator = torch.Generator().manual_seed(1)
    own, theirs = torch.randint(6, (2, ROWS), generator=generator)
    return own, theirs, torch.rand(ROWS, generator=generator, dtype=torch.float64)


def batch(labelled=None):
    images = torch.randn(ROWS, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    own, theirs, shares = parts()
    if labelled:
        own[labelled:] = theirs[labelled:] = -1
    labels = mixed_labels(own, theirs, shares.float(), 6)
    views = {"strong": images.flip(3)}
    return Batch(images, labels, torch.arange(ROWS), epochs=2, labelled=labelled, mixed=True, views=views)


def test_a_rule_for_teachers_that_reads_labels_is_named():
    teacher, student = networks()
    method = create_method("kd", student=student, teacher=[teacher, networks()[1]], teachers="confidence").train()
    with pytest.raises(AttarError, match=r"method\.teachers=confidence weighs teachers by the labels"):
        check_mixed(method, batch())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 0.5, 3.0, 1.0, 0.125)])
def test_the_loss_is_that_of_both_labels_by_their_shares(smoothing, weights):
    own, theirs, shares = parts()
    logits = torch.randn(ROWS, 6, dtype=torch.float64, requires_grad=True)
    given = Batch(torch.zeros(ROWS, 1), mixed_labels(own, theirs, shares, 6))
    edge = Transfer("labels", "student.logits", CrossEntropy(smoothing, class_weights=weights))
    loss = edge(Knowledge(given, student=logits))
    counts = torch.ones(6, dtype=torch.float64) if weights is None else torch.tensor(weights, dtype=torch.float64)
    terms, counted = 0, 0
    for labels, part in ((own, shares), (theirs, 1 - shares)):
        each = F.cross_entropy(logits, labels, counts, label_smoothing=smoothing, reduction="none")
        terms, counted = terms + (part * each).sum(), counted + (part * counts[labels]).sum()
    expected = terms / counted
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    (got,), (wanted,) = (torch.autograd.grad(one, logits) for one in (loss, expected))
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-15)


def test_whole_shares_are_class_numbers():
    method, given = make("kd"), batch()
    own, theirs, _ = parts()
    soft = mixed_labels(own, theirs, torch.ones(ROWS), 6)
    torch.testing.assert_close(method.losses(given.inputs, soft).total, method.losses(given.inputs, own).total)
    assert not torch.allclose(method.losses(given.inputs, soft).total, method.losses(given.inputs, theirs).total)


def given_labels(method):
    """Whether an edge between networks is handed the labels."""
    return any("labels" in edge.given and owner(edge.source) != "labels" for edge in method.edges)


@pytest.mark.slow
@pytest.mark.parametrize("labelled", [None, LABELLED])
def test_who_cannot_is_known_for_every_method(labelled):
    refused, methods = [], {name: make(name) for name in installed_methods()}
    for name, method in methods.items():
        try:
            check_mixed(method, batch(labelled))
        except AttarError:
            refused.append(name)
    # Some read class numbers elsewhere: memories, ranks, ekd's evidence, attributions, the shares of rsd's mixing.
    elsewhere = {"ceskd", "ekd", "kdcl", "kdig", "pasm", "pskd", "rsd", *(["angularkd", "crd"] if labelled else [])}
    assert set(refused) == {*elsewhere, *(name for name, method in methods.items() if given_labels(method))}
    assert not set(refused) & set(FIT)


@pytest.mark.parametrize(("name", "options"), [("dkd", {}), ("unikd", {"profile": "code"}), ("rsd", {})])
def test_who_reads_class_numbers_elsewhere_is_refused(name, options):
    with pytest.raises(AttarError) as caught:
        check(make(name, **options), batch())
    message = str(caught.value)
    assert message.startswith(
        f"method {name!r} cannot learn from mixed images: it reads their labels as class numbers ("
    )
    assert message.endswith("(kd, at, rkd, fitnet, simkd, sokd, dml), or leave data.mixup and data.cutmix out")
    assert "\n" not in message


def test_the_same_methods_can_where_nothing_but_labels_edges_reads_them():
    for name, options in (("unikd", {"logits": "kd"}), ("rsd", {"mixture": False}), ("uakd", {})):
        check(make(name, **options), batch())


@pytest.mark.parametrize("labelled", [None, LABELLED])
@pytest.mark.parametrize("name", ["kd", "sokd", "atsc"])
def test_a_check_of_a_mixed_batch_passes(name, labelled):
    check(make(name), batch(labelled))


class Plain(Offline):
    """A method that can; what is below breaks it."""

    name = "mine"

    def transfers(self):
        yield Transfer("labels", "student.logits", CrossEntropy())
        yield Transfer("teacher.logits", "student.logits", KLDivergence())


class Largest(Plain):
    def run(self, batch):
        message = super().run(batch)
        labels = batch.labels.argmax(1) if batch.labels.ndim > 1 else batch.labels
        right = F.one_hot(labels, 6).float()
        return Knowledge(batch, student=message["student.logits"], teacher=message["teacher.logits"] + right)


class ClassNumbers(Plain):
    def run(self, batch):
        message = super().run(batch)
        return message.add("own.logits", message["student.logits"][torch.arange(len(batch)), batch.labels])


def test_labels_that_are_read_out_of_sight_are_found():
    check_mixed(Plain(*networks()).train(), batch())
    with pytest.raises(AttarError, match=r"its edge 'teacher.logits->student.logits' reads their labels; choose one"):
        check_mixed(Largest(*networks()).train(), batch())
    with pytest.raises(AttarError, match=r"it reads their labels as class numbers \("):
        check_mixed(ClassNumbers(*networks()).train(), batch())


def test_a_mistake_that_has_nothing_to_do_with_mixing_is_reported_as_it_is():
    class Wrong(Plain):
        def transfers(self):
            yield Transfer("labels", "students.logits", CrossEntropy())

    with pytest.raises(AttarError, match=r"^unknown knowledge 'students.logits'"):
        check_mixed(Wrong(*networks()).train(), batch())


@pytest.mark.parametrize("name", ["dml", "rsd"])
def test_trying_leaves_the_method_and_the_generator_as_they_were(name):
    method = make(name)
    before, state = {key: one.clone() for key, one in method.state_dict().items()}, torch.get_rng_state()
    if name == "rsd":
        with pytest.raises(AttarError):
            check_mixed(method, batch())
    else:
        check_mixed(method, batch())
    assert all(torch.equal(one, before[key]) for key, one in method.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
