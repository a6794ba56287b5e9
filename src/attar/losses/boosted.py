"""OFA's loss: the teacher's distribution with the label's own class strengthened."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from attar.losses.checks import check_logits, label_mask
from attar.losses.loss import Loss
from attar.losses.numerics import log_probabilities


def boosted(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, power: float = 1.0) -> Tensor:
    """-sum_c ((p_t,c + [c = y])^power - [c = y]) log p_s,c, averaged over the batch (OFA-KD, arXiv:2310.19444).

    With power 1 it is the cross-entropy with the teacher.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).
        labels: (B,) class numbers.
        power: gamma (1 on CIFAR-100, 1.5 for DeiT-T to ResNet18 on ImageNet).

    >>> import torch
    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> [round(boosted(S, T, torch.tensor([0, 1]), power).item(), 4) for power in (1.0, 1.5, 2.0)]
    [0.762, 0.6351, 0.7728]
    """
    check_logits(student_logits, teacher_logits)
    own = label_mask(student_logits, labels).to(student_logits.dtype)
    target = (log_probabilities(teacher_logits).exp() + own) ** power - own
    return -(target * log_probabilities(student_logits)).sum(1).mean()


@dataclass(eq=False, repr=False)
class Boosted(Loss):
    """`boosted` as a module: loss(student_logits, teacher_logits, labels)."""

    power: float = 1.0

    def forward(self, learner: Tensor, source: Tensor, labels: Tensor) -> Tensor:
        return boosted(learner, source, labels, self.power)
