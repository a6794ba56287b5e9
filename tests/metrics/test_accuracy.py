"""One pass over a data set, against torchmetrics and scikit-learn."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import sklearn.metrics
import torch
from torch import nn
from torchmetrics.functional import classification as oracle

from attar.batch import Batch
from attar.errors import AttarError
from attar.knowledge import Output
from attar.metrics import agreement, brier, ece, evaluate, interval, kl, nll
from attar.metrics.accuracy import sums_of

CLASSES, COUNT = 10, 203
RNG = torch.Generator().manual_seed(5)
LOGITS = 2 * torch.randn(COUNT, CLASSES, generator=RNG)
TEACHER = LOGITS + torch.randn(COUNT, CLASSES, generator=RNG)
LABELS = torch.where(torch.rand(COUNT, generator=RNG) < 0.6, LOGITS.argmax(1), torch.arange(COUNT) % CLASSES)


def batches(size: int) -> Iterator[Batch]:
    """The logits play the images: an identity network answers with them."""
    for start in range(0, COUNT, size):
        yield Batch(LOGITS[start : start + size], LABELS[start : start + size])


class Shifted(nn.Module):
    """A teacher that looks its answers up."""

    def forward(self, images: torch.Tensor) -> Output:
        rows = (images[:, None] == LOGITS[None]).all(2).int().argmax(1)
        return Output(TEACHER[rows])


SCORES = evaluate(nn.Identity(), batches(64), teacher=Shifted())


@pytest.mark.parametrize(("found", "k"), [(SCORES.top1, 1), (SCORES.top5, 5)])
def test_accuracy(found: float, k: int) -> None:
    expected = oracle.multiclass_accuracy(LOGITS, LABELS, CLASSES, average="micro", top_k=k)
    assert found == pytest.approx(expected.item(), abs=1e-6)
    assert found == pytest.approx(sklearn.metrics.top_k_accuracy_score(LABELS, LOGITS, k=k))


def test_accuracy_within_classes() -> None:
    expected = oracle.multiclass_accuracy(LOGITS, LABELS, CLASSES, average="none")
    assert SCORES.per_class == pytest.approx(expected.tolist(), abs=1e-6)


def test_calibration_error() -> None:
    expected = oracle.multiclass_calibration_error(LOGITS.softmax(1), LABELS, CLASSES, n_bins=15).item()
    assert SCORES.ece == pytest.approx(expected, abs=1e-6)
    assert ece(LOGITS, LABELS) == pytest.approx(expected, abs=1e-6)


def test_likelihood_and_brier_score() -> None:
    p = LOGITS.double().softmax(1).numpy()
    expected = sklearn.metrics.log_loss(LABELS, p, labels=range(CLASSES))
    assert SCORES.nll == pytest.approx(expected)
    assert nll(LOGITS, LABELS) == pytest.approx(expected)
    squared = np.mean(((p - np.eye(CLASSES)[LABELS.numpy()]) ** 2).sum(1))
    assert SCORES.brier == pytest.approx(squared)
    assert brier(LOGITS, LABELS) == pytest.approx(squared)


def test_fidelity() -> None:
    p, q = TEACHER.double().softmax(1), LOGITS.double().softmax(1)
    expected = (p * (p / q).log()).sum(1).mean().item()
    assert SCORES.kl == pytest.approx(expected)
    assert kl(LOGITS, TEACHER) == pytest.approx(expected)
    same = (TEACHER.argmax(1) == LOGITS.argmax(1)).double().mean().item()
    assert SCORES.agreement == pytest.approx(same) == agreement(LOGITS, TEACHER)


@pytest.mark.parametrize("size", [1, 7, 100, COUNT])
def test_the_size_of_batches_does_not_matter(size: int) -> None:
    found = dataclasses.asdict(evaluate(nn.Identity(), batches(size), teacher=Shifted()))
    for name, expected in dataclasses.asdict(SCORES).items():
        assert found[name] == pytest.approx(expected, abs=1e-12), name


def test_half_precision_logits_are_measured_in_double() -> None:
    half = Batch(LOGITS.bfloat16(), LABELS)
    double = Batch(half.inputs.double(), LABELS)
    assert evaluate(nn.Identity(), [half]) == evaluate(nn.Identity(), [double])


def test_without_a_teacher_there_is_no_fidelity() -> None:
    scores = evaluate(nn.Identity(), batches(50))
    assert scores.agreement is None
    assert scores.kl is None


def test_few_classes_count_all_in_the_top_five() -> None:
    scores = evaluate(nn.Identity(), [Batch(LOGITS[:, :3], LABELS % 3)])
    assert scores.top5 == 1.0


def test_a_class_that_never_occurs_has_no_accuracy() -> None:
    scores = evaluate(nn.Identity(), [Batch(LOGITS[:4], torch.zeros(4, dtype=torch.long))])
    assert scores.per_class[0] is not None
    assert scores.per_class[1:] == (None,) * (CLASSES - 1)


def test_a_diverged_network_scores_nan_not_an_error() -> None:
    scores = evaluate(nn.Identity(), [Batch(torch.full((4, 3), torch.nan), torch.tensor([1, 2, 1, 2]))])
    assert np.isnan(scores.nll)


def test_modes_are_restored_module_by_module() -> None:
    net = nn.Sequential(nn.Linear(CLASSES, CLASSES), nn.BatchNorm1d(CLASSES), nn.Dropout())
    net.train()
    net[1].eval()
    before = net[1].running_mean.clone()
    first, second = (evaluate(net, batches(64)) for _ in range(2))
    assert first == second
    assert [module.training for module in net.modules()] == [True, True, False, True]
    assert torch.equal(net[1].running_mean, before)


def test_modes_are_restored_after_an_error() -> None:
    net = nn.Linear(3, 3).train()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        evaluate(net, batches(64))
    assert net.training
    assert torch.is_grad_enabled()


def test_no_batch_waits_for_the_device() -> None:
    # A tensor on "meta" has no values: reading one would raise.
    sums = sums_of(LOGITS.to("meta"), LABELS.to("meta"), TEACHER.to("meta"))
    assert all(value.is_meta for value in sums.values())


def test_empty_input_is_refused() -> None:
    with pytest.raises(AttarError, match="no samples"):
        evaluate(nn.Identity(), [])
    with pytest.raises(AttarError, match="no samples"):
        ece(LOGITS[:0], LABELS[:0])


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(AttarError, match=r"\(203, 10\).*\(3,\)"):
        brier(LOGITS, LABELS[:3])


def test_interval_is_scipys() -> None:
    from scipy.stats import binomtest

    for correct, count in [(0, 10), (7, 10), (10, 10), (7233, 10000)]:
        expected = binomtest(correct, count).proportion_ci(method="wilson")
        assert interval(correct, count) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("correct", "count"), [(0, 0), (3, 2), (-1, 2)])
def test_impossible_counts_are_refused(correct: int, count: int) -> None:
    with pytest.raises(AttarError, match="0 <= correct <= count"):
        interval(correct, count)


@pytest.mark.parametrize("pack", [lambda logits: (logits, logits.sum()), lambda logits: {"logits": logits}])
def test_networks_that_return_more_than_logits_are_scored_by_them(pack):
    class Packed(nn.Module):
        def forward(self, images):
            return pack(images)

    batches = [Batch(torch.eye(4), torch.tensor([0, 1, 2, 2]))]
    assert evaluate(Packed(), batches) == evaluate(nn.Identity(), batches)
