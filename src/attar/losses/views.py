"""Predictions of two views of an image, compared where the teacher is sure: CRLD."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from attar.losses.checks import check_logits, check_positive
from attar.losses.decoupled import tckd
from attar.losses.loss import Loss
from attar.losses.numerics import divergence_terms, log_probabilities


def confident_kl(
    student_logits: Tensor, teacher_logits: Tensor, confident: Tensor, temperature: float = 4.0, least: float = 0.9
) -> Tensor:
    """The batch's mean of T^2 KL(p_t || p_s) of the images whose largest probability is at least `least`, else 0.

    The cross-view loss of CRLD (Zhang et al., ACM MM 2024): teacher and student may see different views.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).
        confident: (B, K) logits whose largest probability, at temperature 1, decides.
        temperature: T.
        least: of the probability; 0.9 within a view and 0.2 across views on CIFAR-100.

    >>> import torch
    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> [round(confident_kl(S, T, T, least=least).item(), 4) for least in (0.2, 0.7, 0.9)]
    [0.1028, 0.0569, 0.0]
    """
    check_logits(student_logits, teacher_logits)
    check_positive("the temperature", temperature)
    log_t, log_s = log_probabilities(teacher_logits, temperature), log_probabilities(student_logits, temperature)
    return temperature**2 * (divergence_terms(log_t, log_s).sum(1) * _sure(confident, least)).mean()


@dataclass(eq=False, repr=False)
class ConfidentKL(Loss):
    """`confident_kl` as a module: loss(student_logits, teacher_logits, confident)."""

    temperature: float = 4.0
    least: float = 0.9

    def target_class(self) -> ConfidentTCKD:
        return ConfidentTCKD(self.temperature, self.least)

    def forward(self, learner: Tensor, source: Tensor, confident: Tensor) -> Tensor:
        return confident_kl(learner, source, confident, self.temperature, self.least)


@dataclass(eq=False, repr=False)
class ConfidentTCKD(Loss):
    """The part of the label's own class in `ConfidentKL`: loss(student_logits, teacher_logits, confident, labels)."""

    temperature: float = 4.0
    least: float = 0.9

    def forward(self, learner: Tensor, source: Tensor, confident: Tensor, labels: Tensor) -> Tensor:
        return (tckd(learner, source, labels, self.temperature, "none") * _sure(confident, self.least)).mean()


def _sure(logits: Tensor, least: float) -> Tensor:
    """(B,), true where the largest probability is at least `least`."""
    return log_probabilities(logits).amax(1).exp() >= least
