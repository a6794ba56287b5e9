"""Class weights against torch's own, in float64."""

import pytest
import torch
from torch import nn

from attar.distributed.synchronised import needs_whole_batch
from attar.errors import AttarError
from attar.losses import CrossEntropy, cross_entropy

WEIGHTS = torch.tensor([0.25, 1.0, 4.0, 0.5], dtype=torch.float64)


def drawn(seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(9, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    return logits, torch.randint(4, (9,), generator=generator)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_value_and_gradient_are_those_of_torch(smoothing, reduction):
    logits, labels = drawn()
    oracle = nn.CrossEntropyLoss(WEIGHTS, reduction=reduction, label_smoothing=smoothing)
    ours = cross_entropy(logits, labels, smoothing, reduction, WEIGHTS)
    torch.testing.assert_close(ours, oracle(logits, labels))
    gradients = [torch.autograd.grad(loss.sum(), logits)[0] for loss in (ours, oracle(logits, labels))]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_module_is_the_function(smoothing):
    logits, labels = drawn(1)
    loss = CrossEntropy(smoothing, class_weights=tuple(WEIGHTS.tolist()))
    oracle = nn.CrossEntropyLoss(WEIGHTS, label_smoothing=smoothing)
    torch.testing.assert_close(loss(logits, labels), oracle(logits, labels))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_one_hot_probabilities_are_class_numbers(smoothing):
    logits, labels = drawn(2)
    hot = nn.functional.one_hot(labels, 4).double()
    one, other = (cross_entropy(logits, given, smoothing, class_weights=WEIGHTS) for given in (hot, labels))
    torch.testing.assert_close(one, other)


def test_equal_weights_change_nothing():
    logits, labels = drawn(3)
    hot = torch.rand(9, 4, dtype=torch.float64).softmax(1)
    for given in (labels, hot):
        weighed = cross_entropy(logits, given, class_weights=torch.full((4,), 3.0))
        torch.testing.assert_close(weighed, cross_entropy(logits, given))


def test_a_weighted_mean_needs_the_whole_batch():
    assert needs_whole_batch(CrossEntropy(class_weights=(1.0, 2.0)))
    assert not needs_whole_batch(CrossEntropy())


def test_another_number_of_weights_is_refused():
    logits, labels = drawn()
    with pytest.raises(AttarError, match="give one weight a class"):
        cross_entropy(logits, labels, class_weights=WEIGHTS[:3])


def test_weights_first_seen_in_inference_mode_still_train():
    loss, labels = CrossEntropy(class_weights=(0.5, 1.5, 3.25, 7.125)), torch.tensor([0, 3])
    with torch.inference_mode():
        loss(torch.zeros(2, 4), labels)
    logits = torch.zeros(2, 4, requires_grad=True)
    loss(logits, labels).backward()
    assert logits.grad.any()
