"""DIST: predictions that correlate with the teacher's, within a sample and within a class."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from attar.losses.checks import check_logits, check_positive
from attar.losses.loss import Loss
from attar.losses.numerics import log_probabilities

# The authors' guard. It also silences columns in which nobody sees anything.
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
