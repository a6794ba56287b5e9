"""Means are over what counts: the same number as one batch, however it is divided."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from attar.batch import Batch, Counts
from attar.errors import AttarError
from attar.knowledge import Knowledge, Transfer, total_loss
from attar.losses import MSE, CrossEntropy, JensenShannon, KLDivergence, LogitsMSE, PerToken, ReverseKL
from attar.losses.checks import reduced, row_weighted

SEQUENCES, LENGTH, VOCABULARY = 5, 4, 3


def tokens(seed=0):
    """Logits, token numbers and a mask: sequences of 4, 1, 3, 2 and 2 tokens that count."""
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(SEQUENCES, LENGTH, VOCABULARY, generator=rng, dtype=torch.float64)
    labels = torch.randint(VOCABULARY, (SEQUENCES, LENGTH), generator=rng)
    weight = (torch.arange(LENGTH) < torch.tensor([4, 1, 3, 2, 2])[:, None]).double()
    return logits, labels, weight


def test_the_mean_is_over_the_tokens_that_count():
    logits, labels, weight = tokens()
    counted = weight.bool()
    expected = nn.functional.cross_entropy(logits[counted], labels[counted])
    torch.testing.assert_close(PerToken(CrossEntropy())(logits, labels, weight=weight), expected)


def test_masked_kl_of_two_tokens():
    """The oracle of per-token KL: with one token of two it is that token's, with both the mean."""
    student = torch.tensor([[[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]]], dtype=torch.float64)
    teacher = torch.tensor([[[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]]], dtype=torch.float64)
    loss = PerToken(KLDivergence(1.0))
    for mask, value in (([1.0, 0.0], 0.079028), ([1.0, 1.0], 0.072066)):
        assert loss(student, teacher, weight=torch.tensor([mask])).item() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("loss", [KLDivergence(2.0), ReverseKL(2.0), JensenShannon(2.0), LogitsMSE(), CrossEntropy()])
def test_weights_of_one_change_nothing_and_those_of_zero_leave_a_row_out(loss):
    learner, source = (tokens(seed)[0].flatten(0, 1) for seed in (0, 1))
    if isinstance(loss, CrossEntropy):
        source = tokens(1)[1].flatten()
    ones = torch.ones(len(learner), dtype=torch.float64)
    torch.testing.assert_close(loss(learner, source, weight=ones), loss(learner, source))
    first = (torch.arange(len(learner)) < 7).double()
    learner = torch.where(first[:, None] > 0, learner, torch.inf)
    torch.testing.assert_close(loss(learner, source, weight=first), loss(learner[:7], source[:7]))


def test_nothing_that_counts_is_a_mean_of_zero():
    assert reduced(torch.ones(3, 2), "batchmean", weight=torch.zeros(3)).item() == 0


@pytest.mark.parametrize("whole", [0.0, torch.tensor(0.0)])
def test_a_step_in_which_nothing_counts_has_no_gradient(whole):
    """Neither a NaN nor an error: of one process the weight is a number, of several a tensor."""
    logits, labels, weight = tokens()
    logits.requires_grad_()
    batch = Batch(logits, labels, weight=0 * weight, counts=Counts(5, 5, whole, parts=2))
    edge = Transfer("labels", "student.logits", PerToken(CrossEntropy()))
    total_loss(Knowledge(batch, student=logits), [edge]).total.backward()
    assert logits.grad.abs().sum() == 0


def test_rows_of_which_none_counts_have_a_mean_of_zero():
    learner, labels = torch.randn(3, 4), torch.zeros(3, dtype=torch.long)
    none = torch.zeros(3)
    assert row_weighted(CrossEntropy(), (learner, labels), torch.ones(3), none).item() == 0


class Both(nn.Module):
    """Losses of tokens by their weight and of rows without: what a method with features has."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(VOCABULARY, VOCABULARY).double()
        self.edges = [
            Transfer("labels", "student.logits", PerToken(CrossEntropy()), 0.5),
            Transfer("teacher.logits", "student.logits", PerToken(KLDivergence(2.0)), 2.0),
            Transfer("teacher.rows", "student.rows", MSE(), 3.0),
        ]

    def total(self, batch):
        out = self.net(batch.inputs["x"])
        knowledge = Knowledge(batch, student=out, teacher=batch.inputs["x"].cos())
        knowledge.add("student.rows", out.mean(1)).add("teacher.rows", batch.inputs["x"].mean(1))
        return total_loss(knowledge, self.edges).total


def gradient(net, losses):
    net.zero_grad()
    for loss in losses:
        loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in net.parameters()])


def test_unequal_parts_of_a_step_add_up_to_the_whole():
    """What accumulation does: each part's mean is divided by the number of parts."""
    logits, labels, weight = tokens()
    whole, net = Batch({"x": logits}, labels, weight=weight), Both()
    expected = gradient(net, [net.total(whole)])
    parts = [whole.rows(slice(0, 1)), whole.rows(slice(1, 2)), whole.rows(slice(2, 5))]
    plain = gradient(net, [net.total(part) / 3 for part in parts])
    counts = sum((Counts(len(p), len(p), float(p.weight.sum())) for p in parts[1:]), Counts(1, 1, 4.0))
    assert counts == Counts(5, 5, 12.0, 3)
    shared = gradient(net, [net.total(replace(part, counts=counts)) / 3 for part in parts])
    torch.testing.assert_close(shared, expected)
    assert not torch.allclose(plain, expected, rtol=0.01)


def test_a_loss_without_weights_is_refused_where_not_all_entries_count():
    batch = Batch(torch.zeros(2, 3), torch.tensor([0, 1]), weight=torch.tensor([1.0, 0.0]))
    edge = Transfer("labels", "student.logits", nn.MSELoss())
    with pytest.raises(AttarError, match="MSELoss takes no weight"):
        edge(Knowledge(batch, student=torch.zeros(2, 3)))


def test_inputs_by_name_have_rows_and_a_device():
    batch = Batch({"tokens": torch.arange(8).view(4, 2)}, torch.arange(4), index=torch.arange(4))
    assert len(batch) == 4
    assert batch.device.type == "cpu"
    part = batch.rows(torch.tensor([3, 1])).to("cpu")
    assert part.inputs["tokens"].tolist() == [[6, 7], [2, 3]]
    assert part.labels.tolist() == [3, 1]
    with pytest.raises(AttarError, match="tensors by name"):
        _ = batch.images
