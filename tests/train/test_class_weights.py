from dataclasses import replace

import pytest
import torch
from torch import nn

from attar.data.images import ImageSet
from attar.data.loading.device_loader import DeviceLoader
from attar.data.transforms.mixing import Mixing
from attar.knowledge import Knowledge, Transfer, total_loss
from attar.losses import CrossEntropy
from attar.methods import create_method
from attar.models import create_model
from attar.train import label_losses

WEIGHTS = (1.0, 4.0, 0.5, 2.0)


def nets():
    return [create_model("resnet8", num_classes=4) for _ in range(2)]


@pytest.mark.parametrize("name", ["supervised", "kd", "dml", "dkd", "rsd", "kd+at", "sokd", "unikd"])
def test_every_edge_from_the_labels_is_weighed(name):
    teacher, student = nets()
    alone = name in ("supervised", "dml", "rsd")
    method = create_method(name, student=student, teacher=None if alone else teacher)
    assert label_losses.weigh_labels(method, WEIGHTS) is None
    assert {edge.source for edge in method.edges if getattr(edge.loss, "class_weights", None) == WEIGHTS} >= {"labels"}
    for edge in method.edges:
        assert edge.source.startswith("labels") is isinstance(edge.loss, CrossEntropy)
        if isinstance(edge.loss, CrossEntropy):
            assert edge.loss.class_weights == WEIGHTS


def test_the_losses_are_those_of_torch_with_smoothing():
    teacher, student = nets()
    method = create_method("kd", student=student, teacher=teacher)
    label_losses.smooth_labels(method, 0.1)
    label_losses.weigh_labels(method, WEIGHTS)
    labels = torch.tensor([0, 1, 1, 3, 2])
    losses = method.losses(torch.randn(5, 3, 32, 32), labels)
    oracle = nn.CrossEntropyLoss(torch.tensor(WEIGHTS), label_smoothing=0.1)
    torch.testing.assert_close(losses["labels->student.logits"], oracle(losses.knowledge["student.logits"], labels))


def test_a_method_without_labels_says_so():
    teacher, student = nets()
    warning = label_losses.weigh_labels(create_method("simkd", student=student, teacher=teacher), WEIGHTS)
    assert (
        warning == "warning: 'simkd' has no cross-entropy with the labels, so data.class_weights change nothing in it"
    )


def test_no_weights_leave_those_of_the_method():
    teacher, student = nets()
    method = create_method("kd", student=student, teacher=teacher)
    method.edges[0].loss.class_weights = WEIGHTS
    assert label_losses.weigh_labels(method, None) is None
    assert method.edges[0].loss.class_weights == WEIGHTS


def test_a_training_follows_the_weights_of_its_images(tiny):
    plain, weighed = tiny("supervised", epochs=1), tiny("supervised", epochs=1)
    weights = (1.0,) * 9 + (30.0,)
    train = weighed.splits.train
    weighed.splits = replace(weighed.splits, train=replace(train, class_weights=weights))
    plain.fit()
    weighed.fit()
    assert weighed.method.edges[0].loss.class_weights == weights
    given = [(one.method.run(next(one.new_loader().epoch(0)))["student.logits"]).argmax(1) for one in (plain, weighed)]
    assert (given[0] == 9).sum() < (given[1] == 9).sum()


def images(weights=(20.0, 1.0, 3.0)):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (22, 3, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 3, (22,), generator=generator)
    return ImageSet(pixels, labels, ("a", "b", "c"), "drawn", (0.5,) * 3, (0.2,) * 3, class_weights=weights)


def gradient(net, batches, counts=None):
    """Of the mean over batches, as the loop accumulates them."""
    net.zero_grad()
    for batch in batches:
        edge = Transfer("labels", "student.logits", CrossEntropy(class_weights=images().class_weights))
        batch = replace(batch, counts=counts)
        known = Knowledge(batch, student=net(batch.inputs.double().flatten(1)))
        (total_loss(known, [edge]).total / len(batches)).backward()
    return net.weight.grad.clone()


@pytest.mark.parametrize("repeats", [1, 2])
def test_accumulated_batches_have_the_mean_of_the_whole_step(repeats):
    net = nn.Linear(3 * 8 * 8, 3).double()
    whole, halves = (DeviceLoader(images(), size, seed=1, repeats=repeats) for size in (8, 4))
    parts, counts = list(halves.epoch(1))[:2], halves.counts(1, 0) + halves.counts(1, 1)
    assert counts.class_weight == whole.counts(1, 0).class_weight
    expected = gradient(net, list(whole.epoch(1))[:1])
    torch.testing.assert_close(gradient(net, parts, counts), expected)
    assert not torch.allclose(gradient(net, parts), expected, rtol=0.01)


def test_a_loader_counts_weights_of_labelled_images_of_one_class():
    unlabelled = replace(images(), labels=torch.full((22,), -1), name="more")
    loader = DeviceLoader(images(), 8, seed=1, unlabelled=unlabelled)
    batch = next(loader.epoch(0))
    expected = torch.tensor(images().class_weights)[batch.labels[: batch.labelled]].sum().item()
    assert loader.counts(0, 0).class_weight == pytest.approx(expected)
    assert DeviceLoader(images(), 8, mixing=Mixing(mixup=0.5)).counts(0, 0).class_weight is None
    assert DeviceLoader(images(None), 8).counts(0, 0).class_weight is None
