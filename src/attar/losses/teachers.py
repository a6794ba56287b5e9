"""Losses with several teachers at once: averaged, weighed for each image, dropped at random, or routed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from attar.errors import AttarError
from attar.losses.checks import check_logits, check_positive
from attar.losses.entropy import entropy
from attar.losses.features import mse
from attar.losses.loss import Loss
from attar.losses.numerics import divergence_terms, log_probabilities, widen

# An entropy below every one that float32 can tell from certainty.
SMALL = 1e-30


def divergences(student_logits: Tensor, teachers: Sequence[Tensor], temperature: float = 4.0) -> Tensor:
    """(teachers, B): T^2 KL(p_k || p_s) of each teacher and image.

    Args:
        student_logits: (B, K).
        teachers: each (B, K).
        temperature: T.
    """
    if not teachers:
        raise AttarError("there is no teacher to learn from; give one or more")
    check_positive("the temperature", temperature)
    log_s = log_probabilities(student_logits, temperature)
    rows = []
    for one in teachers:
        check_logits(student_logits, one)
        rows.append(temperature**2 * divergence_terms(log_probabilities(one, temperature), log_s).sum(1))
    return torch.stack(rows)


def entropy_shares(teachers: Sequence[Tensor]) -> Tensor:
    """(teachers, B): EBKD's 1 - H_k / sum of H, which sum to the number of teachers - 1 (1 for a single one)."""
    # Where all are certain, no entropy is above 0: their shares are equal.
    each = torch.stack([entropy(one) for one in teachers]).clamp_min(SMALL)
    return 1 - each / each.sum(0) if len(teachers) > 1 else torch.ones_like(each)


def confidence_shares(teachers: Sequence[Tensor], labels: Tensor) -> Tensor:
    """(teachers, B): CA-MKD's (1 - softmax over teachers of their cross-entropy) / (teachers - 1), which sum to 1."""
    each = torch.stack([F.cross_entropy(widen(one), labels, reduction="none") for one in teachers])
    return (1 - each.softmax(0)) / (len(teachers) - 1) if len(teachers) > 1 else torch.ones_like(each)


@dataclass(eq=False, repr=False)
class AverageKL(Loss):
    """The mean over teachers and images: loss(student_logits, teachers' logits).

    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> U = torch.tensor([[1.0, 1.5, 0.0], [0.0, 3.0, 1.0]])
    >>> round(AverageKL()(S, (T, U)).item(), 4)
    0.131
    """

    temperature: float = 4.0

    def forward(self, learner: Tensor, source: Sequence[Tensor]) -> Tensor:
        return divergences(learner, source, self.temperature).mean()


@dataclass(eq=False, repr=False)
class EntropyWeightedKL(Loss):
    """EBKD: sure teachers count more, `entropy_shares`; the mean over teachers and images, as released.

    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> U = torch.tensor([[1.0, 1.5, 0.0], [0.0, 3.0, 1.0]])
    >>> round(EntropyWeightedKL()(S, (T, U)).item(), 4)
    0.0628
    """

    temperature: float = 4.0

    def forward(self, learner: Tensor, source: Sequence[Tensor]) -> Tensor:
        return (entropy_shares(source) * divergences(learner, source, self.temperature)).mean()


@dataclass(eq=False, repr=False)
class ConfidenceWeightedKL(Loss):
    """CA-MKD: teachers that are right count more, `confidence_shares`: loss(student_logits, teachers' logits, labels).

    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> U = torch.tensor([[1.0, 1.5, 0.0], [0.0, 3.0, 1.0]])
    >>> round(ConfidenceWeightedKL()(S, (T, U), torch.tensor([0, 1])).item(), 4)
    0.0606
    """

    temperature: float = 4.0

    def forward(self, learner: Tensor, source: Sequence[Tensor], labels: Tensor) -> Tensor:
        return (confidence_shares(source, labels) * divergences(learner, source, self.temperature)).mean()


@dataclass(eq=False, repr=False)
class ConfidenceWeightedMSE(Loss):
    """CA-MKD's maps: loss(student's maps, teachers' maps, labels, logits), `confidence_shares` of those logits.

    One map (B, C, H, W) of the student for each teacher, in that teacher's shape, and the logits (B, K) that the
    teacher's classifier gives for it: a teacher whose classifier reads the map well counts more. The mean over
    teachers and images, as released.

    >>> maps = (torch.ones(2, 4, 1, 1), torch.zeros(2, 4, 1, 1))
    >>> theirs, even = (torch.zeros(2, 4, 1, 1),) * 2, (torch.zeros(2, 3),) * 2
    >>> ConfidenceWeightedMSE()(maps, theirs, torch.tensor([0, 1]), even).item()
    0.25
    """

    def forward(
        self, learner: Sequence[Tensor], source: Sequence[Tensor], labels: Tensor, logits: Sequence[Tensor]
    ) -> Tensor:
        pairs = zip(learner, source, strict=True)
        errors = torch.stack([mse(own, theirs, "none").flatten(1).mean(1) for own, theirs in pairs])
        return (confidence_shares(logits, labels) * errors).mean()


@dataclass(eq=False, repr=False)
class DenselyGuidedKL(Loss):
    """DGKD: the sum over the teachers that are kept: loss(student_logits, teachers' logits, kept).

    `kept` (teachers,) is 1 for a teacher that teaches this batch and 0 for one that was dropped.

    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> U = torch.tensor([[1.0, 1.5, 0.0], [0.0, 3.0, 1.0]])
    >>> round(DenselyGuidedKL(5.0)(S, (T, U, T), torch.ones(3)).item(), 4)
    0.3653
    """

    temperature: float = 5.0

    def forward(self, learner: Tensor, source: Sequence[Tensor], kept: Tensor) -> Tensor:
        return (kept[:, None] * divergences(learner, source, self.temperature)).sum(0).mean()


@dataclass(eq=False, repr=False)
class RoutedKL(Loss):
    """Each image has one teacher: loss(student_logits, teachers' logits, route), `route` (B,) the teacher's number.

    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> U = torch.tensor([[1.0, 1.5, 0.0], [0.0, 3.0, 1.0]])
    >>> round(RoutedKL(4.0)(S, (T, U), torch.tensor([0, 1])).item(), 4)
    0.1118
    """

    temperature: float = 4.0

    def forward(self, learner: Tensor, source: Sequence[Tensor], route: Tensor) -> Tensor:
        return divergences(learner, source, self.temperature).gather(0, route[None]).mean()
