"""The alpha-beta divergence between predictions, which has forward and reverse KL and Hellinger as points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from attar.losses.checks import check_logits, check_positive, reduced
from attar.losses.loss import Loss
from attar.losses.numerics import log_probabilities


def alpha_beta(
    student_logits: Tensor,
    teacher_logits: Tensor,
    alpha: float = 0.8,
    beta: float = 0.3,
    temperature: float = 4.0,
    weight: Tensor | None = None,
) -> Tensor:
    """D(p || q), the alpha-beta divergence of the softened predictions, averaged over the batch (arXiv:2505.04560).

    -1/(ab) sum(p^a q^b - a/(a+b) p^(a+b) - b/(a+b) q^(a+b)), p the teacher's, q the student's. (1, 0) is the forward
    KL, (0, 1) the reverse, (0.5, 0.5) four times the squared Hellinger distance. There is no factor T^2.

    Deviates: where a or b or a + b is 0 the limits carry 1/a^2 (or 1/b^2); the released code has 1/a, which is the
    limit at 1 only.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).
        alpha: a; smaller puts weight on large errors (0.8 for resnet56 to resnet20).
        beta: b; larger puts weight on classes the student is confident of (0.3 for that pair).
        temperature: T (4).
        weight: (B,) how much each row counts in the mean; None: all alike.

    >>> import torch
    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> round(alpha_beta(S, T, temperature=1.0).item(), 4)
    0.0612
    """
    check_logits(student_logits, teacher_logits)
    check_positive("the temperature", temperature)
    log_p, log_q = (log_probabilities(logits, temperature) for logits in (teacher_logits, student_logits))
    # In powers of logarithms: probabilities raised to a power underflow.
    return reduced(_terms(log_p, log_q, alpha, beta).sum(1), "mean", weight)


def _terms(log_p: Tensor, log_q: Tensor, a: float, b: float) -> Tensor:
    """(B, K): the divergence class by class, with its limits."""
    if a == 0 and b == 0:
        return 0.5 * (log_q - log_p).square()
    if b == 0:
        return ((a * log_p).exp() * a * (log_p - log_q) - (a * log_p).exp() + (a * log_q).exp()) / a**2
    if a == 0:
        return ((b * log_q).exp() * b * (log_q - log_p) - (b * log_q).exp() + (b * log_p).exp()) / b**2
    if a + b == 0:
        return (a * (log_q - log_p) + (a * (log_p - log_q)).exp() - 1) / a**2
    both = a + b
    mixed = (a * log_p + b * log_q).exp() - a / both * (both * log_p).exp() - b / both * (both * log_q).exp()
    return -mixed / (a * b)


@dataclass(eq=False, repr=False)
class AlphaBeta(Loss):
    """`alpha_beta` as a module: loss(student_logits, teacher_logits)."""

    alpha: float = 0.8
    beta: float = 0.3
    temperature: float = 4.0
    counts: ClassVar[bool] = True
    squared_temperature: ClassVar[bool] = False

    def forward(self, learner: Tensor, source: Tensor, weight: Tensor | None = None) -> Tensor:
        return alpha_beta(learner, source, self.alpha, self.beta, self.temperature, weight)
