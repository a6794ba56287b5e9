"""How far a network's probabilities can be believed: ECE, negative log-likelihood, Brier score."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from attar.errors import AttarError
from attar.losses import cross_entropy

BINS = 15


def check_answers(logits: Tensor, labels: Tensor) -> None:
    """Refuse logits that are not (B, K) with one label each, or none at all."""
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise AttarError(
            f"logits have shape {tuple(logits.shape)}, labels {tuple(labels.shape)}; expected (B, K) and (B,)"
        )
    if len(logits) == 0:
        raise AttarError("there are no samples to measure; give at least one")


def bin_sums(logits: Tensor, labels: Tensor, bins: int = BINS) -> Tensor:
    """Per bin of confidence the samples, their summed confidence, and the correct ones: the reliability diagram.

    Bins are equally wide; a confidence on a boundary belongs to the bin below. Nothing waits for the device.

    Args:
        logits: (B, K).
        labels: (B,) class numbers.
        bins: how many.

    Returns:
        (3, bins) in float64; sums of several batches add up.

    >>> bin_sums(torch.tensor([[0.0, 100.0], [0.0, 100.0]]), torch.tensor([1, 0]), bins=4).tolist()
    [[0.0, 0.0, 0.0, 2.0], [0.0, 0.0, 0.0, 2.0], [0.0, 0.0, 0.0, 1.0]]
    """
    check_answers(logits, labels)
    confidence, predicted = logits.double().softmax(1).max(1)
    # Clamped after the conversion, so that the NaN of a diverged network also finds a bin.
    place = ((confidence * bins).ceil().long() - 1).clamp(0, bins - 1)
    values = torch.stack([torch.ones_like(confidence), confidence, (predicted == labels).double()])
    return torch.zeros(3, bins, dtype=torch.float64, device=logits.device).index_add_(1, place, values)


def ece_from(sums: Tensor) -> Tensor:
    """The expected calibration error from `bin_sums`: sum over bins of |confidence - accuracy| times its share."""
    count, confidence, correct = sums
    return (confidence - correct).abs().sum() / count.sum()


def ece(logits: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Expected calibration error of the predicted class (Guo et al., arXiv:1706.04599), over equally wide bins.

    Args:
        logits: (B, K).
        labels: (B,) class numbers.
        bins: 15, as in the paper.

    >>> round(ece(torch.tensor([[0.0, 100.0], [0.0, 100.0]]), torch.tensor([1, 0])), 4)
    0.5
    """
    return ece_from(bin_sums(logits, labels, bins)).item()


def nll(logits: Tensor, labels: Tensor) -> float:
    """The mean negative log-likelihood of the labels, in nats.

    Args:
        logits: (B, K).
        labels: (B,) class numbers.

    >>> round(nll(torch.zeros(3, 10), torch.tensor([0, 4, 9])), 4)  # log 10
    2.3026
    """
    check_answers(logits, labels)
    return cross_entropy(logits.double(), labels).item()


def brier_terms(logits: Tensor, labels: Tensor) -> Tensor:
    """(B,): the squared distance of each sample's probabilities from its one-hot label, in float64."""
    p = logits.double().softmax(1)
    return (p - F.one_hot(labels, p.shape[1])).square().sum(1)


def brier(logits: Tensor, labels: Tensor) -> float:
    """The Brier score over all classes: from 0 (certain and right) to 2 (certain and wrong).

    Args:
        logits: (B, K).
        labels: (B,) class numbers.

    >>> brier(torch.zeros(1, 2), torch.tensor([1]))
    0.5
    """
    check_answers(logits, labels)
    return brier_terms(logits, labels).mean().item()
