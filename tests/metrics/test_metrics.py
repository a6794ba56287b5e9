"""Metrics objects: sums that add up to the numbers of one pass."""

from dataclasses import asdict

import pytest
import torch
from torch import nn

from attar.batch import Batch
from attar.errors import AttarError
from attar.metrics import ClassificationMetrics, Measure, evaluate, score
from attar.metrics.channel import ChannelMetrics
from attar.metrics.classification import Top1
from attar.metrics.density import CountingMetrics
from attar.metrics.language import LanguageMetrics
from attar.metrics.multilabel import MultilabelMetrics
from attar.metrics.nodes import NodeMetrics
from attar.metrics.sentences import SentenceMetrics


def batches():
    rng = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(11, 4, generator=rng), torch.randint(4, (11,), generator=rng)
    return [Batch(logits[part], labels[part]) for part in (slice(0, 6), slice(6, 7), slice(7, 11))]


def test_classification_gives_the_numbers_of_evaluate():
    teacher = nn.Linear(4, 4)
    expected = evaluate(nn.Identity(), batches(), teacher)
    found = score(nn.Identity(), batches(), ClassificationMetrics(), teacher)
    assert found == {key: value for key, value in asdict(expected).items() if key not in ("count", "per_class")}


def test_sums_of_two_processes_are_those_of_one():
    parts = [ClassificationMetrics(), ClassificationMetrics()]
    for number, batch in enumerate(batches()):
        parts[number % 2].update(batch.inputs, batch)
    together = {key: parts[0].totals[key] + parts[1].totals[key] for key in parts[0].totals}
    whole = score(nn.Identity(), batches(), ClassificationMetrics())
    assert ClassificationMetrics(together).compute() == pytest.approx(whole, abs=1e-12)


def test_top1_of_mixed_and_unlabelled_rows():
    shares = torch.tensor([[0.7, 0.3], [0.4, 0.6], [0.0, 0.0]])
    metrics = Top1()
    metrics.update(torch.tensor([[1.0, 0], [1, 0], [1, 0]]), Batch(torch.zeros(3, 1), shares, labelled=2, mixed=True))
    assert metrics.compute() == {"top1": 0.5}


def test_the_direction_decides_what_is_better():
    up, down = Measure("a", "a", higher=True), Measure("b", "b")
    assert up.better(2, 1)
    assert not up.better(1, 2)
    assert down.better(1, 2)
    assert up.better(0, None)
    assert not up.better(float("nan"), None)
    assert not down.better(1, 1)
    assert down.better(5, float("nan"))


def test_a_batch_in_which_nothing_counts_changes_nothing():
    weight = torch.tensor([0.0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    logits, labels = (torch.cat([getattr(one, key) for one in batches()]) for key in ("inputs", "labels"))
    whole = Batch(logits, labels, weight=weight)
    parts, all_at_once = ClassificationMetrics(), ClassificationMetrics()
    for part in (slice(0, 4), slice(4, 8), slice(8, 11)):
        parts.update(logits[part], whole.rows(part), 2 * logits[part])
    all_at_once.update(logits, whole, 2 * logits)
    assert parts.compute() == pytest.approx(all_at_once.compute(), abs=1e-12)


LABELS = {
    ClassificationMetrics: torch.zeros(2, dtype=torch.long),
    Top1: torch.zeros(2, dtype=torch.long),
    SentenceMetrics: torch.zeros(2, dtype=torch.long),
    MultilabelMetrics: torch.ones(2, 3, dtype=torch.bool),
    CountingMetrics: torch.ones(2, 3),
    ChannelMetrics: torch.ones(2, 3),
}


@pytest.mark.parametrize("kind", LABELS)
def test_where_every_weight_is_0_there_is_one_line(kind):
    metrics = kind()
    metrics.update(torch.ones(2, 3), Batch(torch.ones(2, 1), LABELS[kind], weight=torch.zeros(2)))
    with pytest.raises(AttarError, match="counts: every"):
        metrics.compute()


@pytest.mark.parametrize("kind", [LanguageMetrics, NodeMetrics])
def test_where_no_token_or_node_counts_there_is_one_line(kind):
    metrics = kind()
    labels = torch.zeros(1, 2, dtype=torch.long)
    metrics.update(torch.ones(1, 2, 3), Batch(torch.ones(1, 1), labels, weight=torch.zeros(1, 2)))
    with pytest.raises(AttarError, match="counts: every"):
        metrics.compute()


def test_nothing_counted_is_an_error():
    with pytest.raises(AttarError, match="no samples"):
        ClassificationMetrics().compute()
