"""DIST and DIST+: predictions and maps that correlate with the teacher's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from attar.losses.checks import check_logits, check_positive, check_same_shape
from attar.losses.features import ADAPT, same_size
from attar.losses.loss import Loss
from attar.losses.numerics import log_probabilities

# The authors' guard. It also removes columns in which no image has the class.
_EPS = 1e-8


def _uncorrelated(student: Tensor, teacher: Tensor, dim: int) -> Tensor:
    """1 - Pearson's correlation along a dimension, averaged over the other; a constant counts 1."""
    left, right = (p - p.mean(dim, keepdim=True) for p in (student, teacher))
    correlation = (left * right).sum(dim) / (left.norm(dim=dim) * right.norm(dim=dim) + _EPS)
    return 1.0 - correlation.mean()


def dist(
    student_logits: Tensor,
    teacher_logits: Tensor,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float = 4.0,
) -> Tensor:
    """T^2 [beta (1 - correlation of rows) + gamma (1 - correlation of columns)] of softmax(z / T) (arXiv:2205.10536).

    A batch of one sample has constant columns: their term is then 1 and has no gradient.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).
        beta: the weight between classes, within each sample (a row).
        gamma: the weight between samples, within each class (a column).
        temperature: T; the paper's recipe has 4 on CIFAR-100 and 1 on ImageNet.

    >>> import torch
    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> round(dist(S, T, beta=1.0, gamma=0.0, temperature=1.0).item(), 4)
    0.0157
    """
    check_logits(student_logits, teacher_logits)
    check_positive("the temperature", temperature)
    student, teacher = (log_probabilities(logits, temperature).exp() for logits in (student_logits, teacher_logits))
    rows, columns = (_uncorrelated(student, teacher, dim) for dim in (1, 0))
    return temperature**2 * (beta * rows + gamma * columns)


@dataclass(eq=False, repr=False)
class DIST(Loss):
    """`dist` as a module: loss(student_logits, teacher_logits)."""

    beta: float = 1.0
    gamma: float = 1.0
    temperature: float = 4.0

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return dist(learner, source, self.beta, self.gamma, self.temperature)


def map_correlation(student_map: Tensor, teacher_map: Tensor, channel: float = 1.0, spatial: float = 1.0) -> Tensor:
    """DIST+'s terms on maps: channel * (1 - correlation of channels) + spatial * (1 - correlation of positions).

    The first is Pearson's correlation across the channels, at each position of each image. The second sums a map over
    its channels and correlates each position across the batch. Of two sizes the larger map is average-pooled first.

    Deviates: the public code (torchdistill) adds the correlation of channels, which drives the maps apart; its distance
    is added here.

    Args:
        student_map: (B, C, H, W).
        teacher_map: (B, C, H, W), H and W may differ.
        channel: iota, 1 in the public configuration.
        spatial: kappa, 1 there.

    Raises:
        AttarError: the channels differ.

    >>> import torch
    >>> k = torch.arange(36.0).reshape(3, 3, 2, 2)
    >>> round(map_correlation((1.3 * k).sin(), (0.7 * k).cos()).item(), 4)
    1.2948
    """
    student, teacher = same_size(student_map, teacher_map)
    check_same_shape(student, teacher, ADAPT)
    channels = _uncorrelated(student, teacher, 1)
    positions = _uncorrelated(student.sum(1), teacher.sum(1), 0)
    return channel * channels + spatial * positions


@dataclass(eq=False, repr=False)
class MapCorrelation(Loss):
    """`map_correlation` as a module: loss(student_map, teacher_map)."""

    channel: float = 1.0
    spatial: float = 1.0
    whole_batch: ClassVar[bool] = True  # correlations over the batch

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return map_correlation(learner, source, self.channel, self.spatial)
