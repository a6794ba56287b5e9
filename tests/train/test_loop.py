"""What the training loop does between a recipe and the trained weights."""

import json

import pytest
import torch
from torch import nn

from attar.errors import AttarError
from attar.knowledge import Transfer
from attar.losses import CrossEntropy
from attar.methods.supervised import Supervised
from attar.recipe import OptimRecipe
from attar.train import label_losses, loop
from attar.train.optim import optimiser
from attar.train.schedules import learning_rate


def records(one):
    return [json.loads(line) for line in one.metrics.splitlines()]


def test_the_student_trains_in_train_mode_after_every_evaluation(tiny, monkeypatch):
    modes, losses = [], Supervised.batch_losses

    def watch(self, batch):
        modes.append(all(module.training for module in self.modules()))
        return losses(self, batch)

    monkeypatch.setattr(Supervised, "batch_losses", watch)
    one = tiny("supervised", epochs=3)
    one.fit()
    assert modes == [True] * 12


def test_statistics_of_batch_norm_move_once_a_step(tiny):
    one = tiny("kd+at", epochs=2)
    one.fit()
    assert one.state["student.module.bn1.num_batches_tracked"] == 2 * len(one.loader) == 8


def test_metrics_have_one_line_an_epoch_with_every_edge(tiny):
    one = tiny("kd", epochs=3)
    one.fit()
    lines = records(one)
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert set(lines[0]["terms"]) == {"labels->student.logits", "teacher.logits->student.logits"}
    first = lines[0]["terms"]
    expected = 0.1 * first["labels->student.logits"] + 0.9 * first["teacher.logits->student.logits"]
    assert lines[0]["loss"] == pytest.approx(expected, rel=1e-5)
    assert all(0 <= line["val_top1"] <= 100 and line["val_nll"] > 0 for line in lines)


def test_the_learning_rate_is_recorded_with_all_its_digits(tiny):
    one = tiny("supervised", epochs=2, lr=0.0005, schedule="cosine")
    one.fit()
    expected = [learning_rate(one.recipe.optim, step, 4, 2) for step in (3, 7)]
    assert [line["lr"] for line in records(one)] == expected
    assert 0 < expected[1] < 0.0001


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, images):
        return self.layer(images.flatten(1))


def linear(tiny, training, monkeypatch, **optim):
    """The weights of a linear student after one epoch."""
    monkeypatch.setattr(training, "net", lambda self, name: Line())
    one = tiny("supervised", epochs=1, schedule="constant", **optim)
    one.fit()
    return one


def test_accumulation_equals_the_large_batch(tiny, training, monkeypatch):
    small = linear(tiny, training, monkeypatch, accumulate=4)
    by_hand = small.new_method()
    learner = optimiser(by_hand.trainable(), small.recipe.optim)
    batches = list(small.new_loader().epoch(0))
    for batch in batches:
        # The last batch is smaller: an image counts as much in it as in the others.
        (by_hand.batch_losses(batch).total * len(batch) / sum(map(len, batches))).backward()
    learner.step()
    torch.testing.assert_close(
        small.state["student.module.layer.weight"], by_hand.state_dict()["student.module.layer.weight"]
    )
    images, labels = (torch.cat([getattr(batch, key)[:12] for batch in batches]) for key in ("inputs", "labels"))
    large, parts = small.new_method(), small.new_method()
    large.losses(images, labels).total.backward()
    for start in range(0, 48, 12):
        (parts.losses(images[start : start + 12], labels[start : start + 12]).total / 4).backward()
    torch.testing.assert_close(large.student.module.layer.weight.grad, parts.student.module.layer.weight.grad)


def test_a_last_smaller_group_counts_as_its_own_mean(tiny, training, monkeypatch):
    one = linear(tiny, training, monkeypatch, accumulate=3, momentum=0.0, weight_decay=0.0)
    by_hand = one.new_method()
    learner = optimiser(by_hand.trainable(), one.recipe.optim)
    batches = list(one.new_loader().epoch(0))
    assert len(batches) == 4
    for group in (batches[:3], batches[3:]):
        learner.zero_grad()
        for batch in group:
            (by_hand.batch_losses(batch).total / len(group)).backward()
        learner.step()
    torch.testing.assert_close(
        one.state["student.module.layer.weight"], by_hand.state_dict()["student.module.layer.weight"]
    )


def test_clipping_bounds_the_step(tiny, training, monkeypatch):
    plain = {"momentum": 0.0, "weight_decay": 0.0, "nesterov": False, "accumulate": 4, "lr": 1.0}
    one = linear(tiny, training, monkeypatch, clip_norm=0.01, **plain)
    moved = [one.state[key] - start for key, start in one.new_method().state_dict().items()]
    assert torch.cat([part.flatten() for part in moved]).norm().item() == pytest.approx(0.01, rel=1e-3)


def test_label_smoothing_reaches_every_edge_from_the_labels(tiny):
    method = tiny("dml").method
    label_losses.smooth_labels(method, 0.1)
    smoothed = {edge.key for edge in method.edges if getattr(edge.loss, "label_smoothing", 0) == 0.1}
    assert smoothed == {"labels->student.logits", "labels->peer1.logits"}
    printed = method.losses(torch.randn(4, 1, 8, 8), torch.arange(4))
    logits = printed.knowledge["student.logits"]
    torch.testing.assert_close(
        printed["labels->student.logits"], nn.functional.cross_entropy(logits, torch.arange(4), label_smoothing=0.1)
    )


def test_select_best_holds_the_weights_of_the_best_epoch(tiny, monkeypatch):
    scores = iter([10.0, 30.0, 30.0])
    monkeypatch.setattr(loop, "validate", lambda *_: {"val_top1": next(scores), "val_nll": 1.0})
    best, short = (
        tiny("supervised", epochs=3, select="best", schedule="constant"),
        tiny("supervised", epochs=2, schedule="constant"),
    )
    best.fit()
    scores = iter([0.0, 0.0])
    short.fit()
    assert all(torch.equal(tensor, short.state[key]) for key, tensor in best.state.items())


def test_ema_is_what_the_method_holds_and_what_is_validated(tiny):
    plain, averaged = tiny("supervised"), tiny("supervised", ema=0.5)
    plain.fit()
    averaged.fit()
    assert not torch.equal(plain.state["student.module.fc.weight"], averaged.state["student.module.fc.weight"])
    score = loop.validate(
        averaged.method.deployed(),
        averaged.splits.val,
        averaged.loader,
        loop.Runtime(torch.device("cpu"), "float32", ""),
        averaged.method.task.metrics(),
    )
    assert records(averaged)[-1]["val_nll"] == pytest.approx(score["val_nll"], rel=1e-6)


def test_without_a_validation_set_nothing_is_validated(tiny):
    one = tiny("supervised", epochs=1)
    one.splits = type(one.splits)(one.splits.train, one.splits.test, None)
    one.fit()
    assert not [key for key in records(one)[0] if key.startswith("val")]


def test_the_test_set_is_never_touched_in_training(tiny):
    one = tiny("kd", epochs=1)
    one.splits.test.images.fill_(255)
    untouched = tiny("kd", epochs=1)
    one.fit()
    untouched.fit()
    assert one.metrics == untouched.metrics


class NotANumber(nn.Module):
    def forward(self, learner, source):
        return learner.sum() * torch.nan


def test_a_nan_stops_names_its_edge_and_saves_batch_and_state(tiny, monkeypatch):
    transfers = Supervised.transfers

    def with_nan(self):
        yield from transfers(self)
        yield Transfer("labels", "student.logits", NotANumber(), name="bad", weight=lambda epoch, _: float(epoch == 1))

    monkeypatch.setattr(Supervised, "transfers", with_nan)
    one = tiny("supervised")
    with pytest.raises(AttarError, match=r"the loss is nan at epoch 2, step 0: edge 'bad'; .*failure\.pt"):
        one.fit()
    saved = torch.load(one.folder / "failure.pt", weights_only=True)
    assert saved["address"] == {"seed": 0, "epoch": 1, "step": 0}
    replay = next(iter(one.new_loader().epoch(1)))
    assert torch.equal(saved["inputs"], replay.inputs)
    assert torch.equal(saved["labels"], replay.labels)
    one.new_method().load_state_dict(saved["method"])
    assert len(records(one)) == 1


class Huge(nn.Module):
    def forward(self, learner, source):
        return 0 * learner.sum() + 3e38


def test_an_infinite_sum_of_finite_terms_stops_too(tiny, monkeypatch):
    monkeypatch.setattr(
        Supervised, "transfers", lambda self: [Transfer("labels", "student.logits", Huge(), name=name) for name in "ab"]
    )
    one = tiny("supervised")
    with pytest.raises(AttarError, match="the loss is inf at epoch 1, step 0: edge 'the weighted sum'"):
        one.fit()


def test_an_update_sets_the_rate_and_forgets_the_gradient():
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.ones(1)
    learner = optimiser([parameter], OptimRecipe(momentum=0.0, weight_decay=0.0))
    loop.update(learner, 0.125)
    assert parameter.item() == -0.125
    assert parameter.grad is None


def test_optimisers_follow_the_recipe():
    parameters = [nn.Parameter(torch.zeros(1))]
    sgd = optimiser(parameters, OptimRecipe(momentum=0.8, weight_decay=0.01)).param_groups[0]
    assert (sgd["momentum"], sgd["nesterov"], sgd["weight_decay"]) == (0.8, True, 0.01)
    assert not optimiser(parameters, OptimRecipe(momentum=0.0)).param_groups[0]["nesterov"]
    assert isinstance(optimiser(parameters, OptimRecipe(name="adamw")), torch.optim.AdamW)


def test_smoothing_nothing_changes_nothing(tiny):
    method = tiny("kd").method
    label_losses.smooth_labels(method, 0.0)
    assert [edge.loss.label_smoothing for edge in method.edges if isinstance(edge.loss, CrossEntropy)] == [0.0]
