"""Average precision is scikit-learn's, in whatever batches the outputs come."""

import pytest
import torch
from torch import nn

from attar.batch import Batch
from attar.metrics import score
from attar.metrics.multilabel import LabelAccuracy, MultilabelMetrics, average_precision


def outputs(seed, ties):
    rng = torch.Generator().manual_seed(seed)
    scores, truth = torch.randn(57, 5, generator=rng), torch.rand(57, 5, generator=rng) < 0.3
    return (scores.mul(2).round() if ties else scores), truth


@pytest.mark.parametrize("ties", [False, True])
def test_macro_and_micro_are_scikit_learns(ties):
    oracle = pytest.importorskip("sklearn.metrics").average_precision_score
    scores, truth = outputs(0, ties)
    parts = (slice(0, 1), slice(1, 40), slice(40, 57))
    found = score(nn.Identity(), [Batch(scores[part], truth[part]) for part in parts], MultilabelMetrics())
    assert found["map"] == pytest.approx(oracle(truth, scores, average="macro"), abs=1e-12)
    assert found["micro_map"] == pytest.approx(oracle(truth, scores, average="micro"), abs=1e-12)
    each = [oracle(truth[:, label], scores[:, label]) for label in range(5)]
    assert average_precision(scores, truth).tolist() == pytest.approx(each, abs=1e-12)


def test_a_label_that_no_image_has_does_not_count():
    scores, truth = outputs(1, ties=False)
    truth[:, 2] = False
    kept = [0, 1, 3, 4]
    whole, rest = (
        score(nn.Identity(), [Batch(scores[:, part], truth[:, part])], MultilabelMetrics())["map"]
        for part in (slice(None), kept)
    )
    assert whole == pytest.approx(rest)


def test_the_other_measures():
    scores, truth = outputs(2, ties=False)
    teacher = nn.Linear(5, 5).requires_grad_(False)
    found = score(nn.Identity(), [Batch(scores, truth)], MultilabelMetrics(), teacher)
    own, theirs = (torch.distributions.Bernoulli(logits=one.double()) for one in (scores, teacher(scores)))
    assert found["label_accuracy"] == pytest.approx(((scores > 0) == truth).double().mean().item())
    assert found["bce"] == pytest.approx(-own.log_prob(truth.double()).mean().item())
    assert found["agreement"] == pytest.approx(((scores > 0) == (teacher(scores) > 0)).double().mean().item())
    assert found["kl"] == pytest.approx(torch.distributions.kl_divergence(theirs, own).mean().item())


def test_rows_without_weight_do_not_count_and_diverged_outputs_have_no_rank():
    scores, truth = outputs(3, ties=False)
    weight = torch.ones(57)
    weight[40:] = 0
    for metrics in (MultilabelMetrics(), LabelAccuracy()):
        first = score(nn.Identity(), [Batch(scores[:40], truth[:40])], type(metrics)())
        assert score(nn.Identity(), [Batch(scores, truth, weight=weight)], metrics) == pytest.approx(first)
    scores[3, 1] = torch.nan
    found = score(nn.Identity(), [Batch(scores, truth)], MultilabelMetrics())
    assert found["map"] != found["map"]
