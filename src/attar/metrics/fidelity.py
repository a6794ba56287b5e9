"""How closely a student follows its teacher, whatever the labels are."""

from __future__ import annotations

from torch import Tensor

from attar.losses import kl_divergence


def agreement(student_logits: Tensor, teacher_logits: Tensor) -> float:
    """The fraction of samples on which both predict the same class.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).

    >>> import torch
    >>> agreement(torch.eye(4), torch.eye(4)[[0, 1, 2, 2]])
    0.75
    """
    return (student_logits.argmax(1) == teacher_logits.argmax(1)).double().mean().item()


def kl(student_logits: Tensor, teacher_logits: Tensor) -> float:
    """The mean of KL(p_teacher || p_student) at temperature 1, in nats.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).

    >>> import torch
    >>> round(kl(torch.zeros(1, 2), torch.tensor([[0.0, 100.0]])), 4)  # log 2
    0.6931
    """
    return kl_divergence(student_logits.double(), teacher_logits.double(), temperature=1.0).item()
