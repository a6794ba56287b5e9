"""WKD-L: the cost of transporting the student's prediction to the teacher's, among the classes that are not the
label's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from attar.losses.checks import check_logits, check_positive, check_same_shape, label_mask
from attar.losses.loss import Loss
from attar.losses.numerics import log_probabilities_among, product


def transport_cost(
    student: Tensor, teacher: Tensor, cost: Tensor, regularisation: float = 0.05, iterations: int = 10
) -> Tensor:
    """The cost (B,) of the entropic optimal transport between two distributions over K classes.

    Sinkhorn's iterations with the kernel exp(-cost / regularisation), all rows at once in products with one K x K
    matrix. A class without mass on a side takes no part, as if its row or column were not there. 10 iterations
    need not converge; the gradient is that of the iterations.

    Args:
        student: (B, K), each row sums to 1.
        teacher: (B, K), the same.
        cost: (K, K), from a student's class (row) to a teacher's (column).
        regularisation: 0.05 in the authors' code.
        iterations: 10 there.

    >>> p = torch.tensor([[0.659, 0.2424, 0.0986]])
    >>> q = torch.tensor([[0.836, 0.1131, 0.0508]])
    >>> cost = 1 - torch.tensor([[0.0, 0.5, 0.9], [0.5, 0.0, 0.3], [0.9, 0.3, 0.0]]).neg().exp()
    >>> round(transport_cost(p, q, cost).item(), 3)
    0.061
    """
    check_same_shape(student, teacher, "both are distributions over the same classes")
    check_positive("the regularisation", regularisation)
    kernel, tiny = (-cost / regularisation).exp(), torch.finfo(student.dtype).tiny
    present = (student > 0).to(student)
    rows = present / present.sum(1, keepdim=True).clamp_min(1.0)
    columns = teacher
    for _ in range(iterations):
        columns = teacher / product(rows, kernel).clamp_min(tiny)
        rows = student / product(columns, kernel.mT).clamp_min(tiny)
    return (rows * product(columns, (kernel * cost).mT)).sum(1)


def other_classes(logits: Tensor, own: Tensor, temperature: float) -> Tensor:
    """(B, K): the softened probabilities among the classes that are not the label's, whose place holds 0."""
    return log_probabilities_among(logits, own, temperature).exp()


def wkd_logits(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    cost: Tensor,
    temperature: float = 8.0,
    regularisation: float = 0.05,
    iterations: int = 10,
) -> Tensor:
    """WKD-L: the mean transport cost between the predictions among the other classes (arXiv:2412.08139).

    It has no factor T^2.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).
        labels: (B,) class numbers.
        cost: (K, K) between classes.
        temperature: T; 8 on CIFAR-100, 2 on ImageNet.
        regularisation: of the transport, see `transport_cost`.
        iterations: of Sinkhorn's.

    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> cost = 1 - torch.tensor([[0.0, 0.5, 0.9], [0.5, 0.0, 0.3], [0.9, 0.3, 0.0]]).neg().exp()
    >>> round(wkd_logits(S, T, torch.tensor([0, 1]), cost, temperature=1.0).item(), 4)
    0.0034
    """
    check_logits(student_logits, teacher_logits)
    check_positive("the temperature", temperature)
    own = label_mask(student_logits, labels)
    student, teacher = (other_classes(logits, own, temperature) for logits in (student_logits, teacher_logits))
    return transport_cost(student, teacher, cost.to(student), regularisation, iterations).mean()


@dataclass(eq=False, repr=False)
class WKDLogits(Loss):
    """`wkd_logits` as a module: loss(student_logits, teacher_logits, labels, cost)."""

    temperature: float = 8.0
    regularisation: float = 0.05
    iterations: int = 10

    def forward(self, learner: Tensor, source: Tensor, labels: Tensor, cost: Tensor) -> Tensor:
        return wkd_logits(learner, source, labels, cost, self.temperature, self.regularisation, self.iterations)
