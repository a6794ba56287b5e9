"""A broken promise of a run is found by its epoch's end and named; a healthy run of any method hears nothing."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from attar.data import batches_of, load_data
from attar.errors import AttarError
from attar.experiments.input_warnings import exchanged_classes, overlap, probabilities, weak_teacher
from attar.knowledge import Knowledge, Transfer
from attar.losses import MSE, CrossEntropy
from attar.methods.dml import DML
from attar.methods.kd import KD
from attar.methods.supervised import Supervised
from attar.metrics import ClassificationMetrics
from attar.metrics.predictions import Predictions, evaluate_each
from attar.models import create_model
from attar.safety.invariants import Invariants, check_sources, checksums

# That healthy runs of all methods hear nothing is part of test_kills.py, which runs them all.


@pytest.mark.parametrize("part", ["bn1.running_mean", "fc.weight"])
def test_a_frozen_network_that_moves_is_an_error(tiny, monkeypatch, part):
    run = KD.run

    def moving(self, batch):
        if batch.address.step == 2:
            self.teacher.module.state_dict()[part].view(-1)[0] += 1e-6
        return run(self, batch)

    monkeypatch.setattr(KD, "run", moving)
    with pytest.raises(AttarError, match=f"method 'kd' changed '{part}' of a frozen network"):
        tiny("kd").fit()


def test_a_frozen_network_in_training_mode_is_an_error(tiny):
    method = tiny("kd").method
    invariants = Invariants(method, 2, print)
    method.teacher.module.bn1.train()
    with pytest.raises(AttarError, match="left a frozen network in training mode"):
        invariants.end_epoch(0)


def test_a_student_in_eval_mode_is_an_error(tiny, monkeypatch):
    run = Supervised.run

    def evaluating(self, batch):
        self.student.module.eval()
        return run(self, batch)

    monkeypatch.setattr(Supervised, "run", evaluating)
    with pytest.raises(AttarError, match=r"trains its student in eval mode \('bn1' and \d+ more\)"):
        tiny("supervised").fit()


def test_a_frozen_part_of_the_student_may_stay_in_eval_mode(tiny, monkeypatch):
    run = Supervised.run

    def partly(self, batch):
        self.student.module.bn1.eval()
        return run(self, batch)

    monkeypatch.setattr(Supervised, "run", partly)
    one = tiny("supervised")
    make = one.new_method

    def frozen():
        method = make()
        method.student.module.bn1.requires_grad_(False)
        return method

    one.new_method = frozen
    assert "warning" not in one.fit()


def test_a_parameter_without_a_gradient_is_a_warning(tiny, monkeypatch):
    run = Supervised.run

    def masked(self, batch):
        known = run(self, batch)
        return Knowledge(batch, student=known["student.logits"] + 0 * self.student.module.extra.sum())

    monkeypatch.setattr(Supervised, "run", masked)
    one = tiny("supervised")
    make = one.new_method

    def with_extra():
        method = make()
        method.student.module.extra = nn.Parameter(torch.ones(3))
        return method

    one.new_method = with_extra
    message = one.fit()
    assert "warning: parameter 'student.module.extra' learnt nothing in the first epoch" in message
    assert message.count("warning") == 1


def test_a_parameter_that_no_optimiser_steps_is_a_warning(tiny, monkeypatch):
    trainable = Supervised.trainable
    monkeypatch.setattr(Supervised, "trainable", lambda self, phase="": trainable(self, phase)[1:])
    assert "warning: parameter 'student.module.conv1.weight' learnt nothing" in tiny("supervised").fit()


@pytest.mark.parametrize(("labels_teach", "named"), [(True, []), (False, ["student.module.fc.weight"])])
def test_what_only_a_later_edge_reaches_is_judged_once_that_edge_has_taught(tiny, monkeypatch, labels_teach, named):
    """The labels join in the second epoch; with a loss that is constant they teach the classifier nothing then."""
    one = tiny("ab", options={"init": 1}, epochs=3)
    if not labels_teach:
        monkeypatch.setattr(CrossEntropy, "forward", lambda self, learner, *_, **__: 0 * learner.sum())
    message = one.fit()
    found = re.findall(r"warning: parameter '([^']*)' and \d+ more learnt nothing in 2 epochs", message)
    assert found == named
    assert "learnt nothing in the first epoch" not in message


def test_an_edge_that_never_changes_is_a_warning(tiny, monkeypatch):
    transfers = Supervised.transfers

    class Flat(nn.Module):
        def forward(self, learner, source):
            return 0 * learner.sum() + 2

    def with_flat(self):
        yield from transfers(self)
        yield Transfer("labels", "student.logits", Flat(), name="flat")
        yield Transfer("labels", "student.logits", Flat(), name="off", weight=0.0)

    monkeypatch.setattr(Supervised, "transfers", with_flat)
    message = tiny("supervised").fit()
    assert "warning: the loss of edge 'flat' was 2 at every look of epoch 1: it teaches nothing" in message
    assert message.count("warning") == 1


class Leaky(Transfer):
    def __call__(self, knowledge):
        return self.loss(knowledge[self.target], knowledge[self.source])


@pytest.mark.parametrize(
    ("first", "warned"),
    [(0.5, True), (2.35, False)],  # a teacher with weights; a student without, whose first epochs swing
)
def test_a_network_that_forgets_what_it_came_with_is_a_warning(tiny, first, warned):
    """As ATSC's teacher does in the authors' form: the loss on labels rises to chance, ln 10 = 2.30."""
    one, heard = tiny("supervised"), []
    invariants = Invariants(one.method, 2, heard.append)
    batch = next(iter(one.loader.epoch(0)))
    for number, losses in enumerate([[first, 2.0], [1.1, 2.25]]):
        invariants.start_epoch(number)
        for step, value in enumerate(losses):
            one.method.zero_grad()
            found = one.method.batch_losses(batch)
            found.total.backward()
            invariants.saw(replace(found, terms={key: torch.tensor(value) for key in found.terms}), step, "")
        torch.optim.SGD(one.method.parameters(), lr=0.1).step()
        assert not heard
        invariants.end_epoch(number)
    assert heard == (
        [
            "warning: the loss of 'student' on its labels rose from 0.50 to 2.25, and chance is 2.30: it has lost what "
            "it had learnt; lower its learning rate, or hold its weights"
        ]
        if warned
        else []
    )


def test_a_source_that_learns_is_an_error_and_the_look_leaves_no_trace(tiny):
    one = tiny("dml")
    method, batch = one.method.train(), next(iter(one.loader.epoch(0)))
    before = {key: tensor.clone() for key, tensor in method.state_dict().items()}
    method.edges = (Leaky("peer1.logits", "student.logits", MSE(), learns="both"),)
    check_sources(method, batch, "")
    assert all(torch.equal(tensor, before[key]) for key, tensor in method.state_dict().items())
    method.edges = (Leaky("peer1.logits", "student.logits", MSE(), name="leak"),)
    with pytest.raises(AttarError, match="edge 'leak' sends a gradient to its source"):
        check_sources(method, batch, "")


def test_a_leaking_edge_stops_the_run(tiny, monkeypatch):
    transfers = DML.transfers

    def leaking(self):
        yield from transfers(self)
        yield Leaky("peer1.logits", "student.logits", MSE(), name="leak")

    monkeypatch.setattr(DML, "transfers", leaking)
    with pytest.raises(AttarError, match="edge 'leak' sends a gradient to its source"):
        tiny("dml").fit()


def test_one_bit_of_any_type_is_seen():
    for dtype in (torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.uint8):
        tensor = torch.zeros(3, dtype=dtype)
        other = tensor.clone()
        other[1] = 1
        assert checksums([tensor]) != checksums([other])


def test_guards_change_nothing(tiny, monkeypatch):
    guarded, plain = tiny("kd"), tiny("kd")
    guarded.fit()
    for name in ("start_epoch", "saw", "end_epoch"):
        monkeypatch.setattr(Invariants, name, lambda *_: None)
    plain.fit()
    assert guarded.metrics == plain.metrics


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", val_fraction=0.0)


def test_test_images_among_the_training_images_are_counted(digits):
    assert overlap(digits.train, digits.test) is None
    leaking = digits.test.subset(torch.arange(len(digits.test)))
    leaking.images[:3] = digits.train.images[5]
    assert overlap(digits.train, leaking).startswith("3 of the 898 test images are in the training set, byte for byte")


class Oracle(nn.Module):
    """Knows each image's label by heart, under other names."""

    def __init__(self, images, shift):
        super().__init__()
        self.mean, self.std = images.mean[0], images.std[0]
        self.known = {
            image.numpy().tobytes(): int(label) for image, label in zip(images.images, images.labels, strict=True)
        }
        self.shift = shift

    def forward(self, images):
        pixels = (255 * (images * self.std + self.mean)).round().to(torch.uint8)
        labels = [self.known[pixel.contiguous().numpy().tobytes()] for pixel in pixels]
        return nn.functional.one_hot((torch.tensor(labels) + self.shift) % 10, 10).float()


def predicted(net, images):
    """What a network predicts for every image."""
    found = evaluate_each(net, batches_of(images), ClassificationMetrics())[1]
    assert found is not None
    return found


def test_a_teacher_with_its_classes_in_another_order_is_reported(digits):
    images = digits.test.subset(torch.arange(200))
    assert weak_teacher(0, predicted(Oracle(images, 0), images), images) is None
    message = weak_teacher(0, predicted(Oracle(images, 1), images), images)
    assert message.startswith("teacher 1 has 0.0 % on 'digits', where guessing has 10.0 %: with its classes renamed it")
    assert "100 %, so its weights have them in another order" in message


def test_a_teacher_that_knows_nothing_is_reported_with_why_that_may_be(digits):
    labels = digits.test.labels.numpy().astype("int32")
    nothing = Predictions(labels, np.zeros((len(labels), 1), "int32"), np.ones((len(labels), 1), "float16"))
    message = weak_teacher(1, nothing, digits.test)
    assert message.startswith("teacher 2 has 9.9 %")
    assert "trained with other mean and std, another image size, or not at all" in message
    better = np.where(np.arange(len(labels)) % 7 == 0, labels, 0)[:, None].astype("int32")
    assert weak_teacher(1, nothing, digits.test, trained=True).endswith(
        ": train it longer (teacher.epochs=), or give one with weights"
    )
    assert weak_teacher(1, replace(nothing, top=better), digits.test) is None


class Swapped(nn.Module):
    """An oracle with two of its ten classes exchanged, and logits."""

    def __init__(self, images, order, softmax=False):
        super().__init__()
        self.oracle, self.order, self.softmax = Oracle(images, 0), order, softmax

    def forward(self, images):
        logits = 6 * self.oracle(images)[:, self.order] - 1
        return logits.softmax(1) if self.softmax else logits


def test_a_teacher_with_two_classes_exchanged_is_warned_of(digits):
    images = digits.test.subset(torch.arange(200))
    right, swapped = Swapped(images, list(range(10))), Swapped(images, [0, 1, 2, 7, 4, 5, 6, 3, 8, 9])
    assert exchanged_classes(0, predicted(right, images), images) is None
    line = exchanged_classes(0, predicted(swapped, images), images)
    assert line.startswith("teacher 1 predicts 2 of 10 classes under each other's names ('3', '7')")
    untrained = create_model("resnet8", num_classes=10, in_channels=1, image_size=8)
    assert exchanged_classes(0, predicted(untrained, images), images) is None


def test_a_teacher_that_ends_in_softmax_is_warned_of(digits):
    images, cpu, order = digits.test.subset(torch.arange(20)), torch.device("cpu"), list(range(10))
    assert probabilities(0, Swapped(images, order), images, cpu) is None
    assert probabilities(0, Swapped(images, order, softmax=True), images, cpu).startswith("teacher 1 puts out probab")
