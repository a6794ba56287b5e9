"""Logits compared sample by sample, between samples and between classes, at several temperatures: MLKD."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from attar.errors import AttarError
from attar.losses.checks import check_logits
from attar.losses.decoupled import tckd
from attar.losses.loss import Loss
from attar.losses.numerics import gram, log_probabilities
from attar.losses.responses import kl_divergence

TEMPERATURES = (2.0, 3.0, 4.0, 5.0, 6.0)


def mlkd(student_logits: Tensor, teacher_logits: Tensor, temperatures: tuple[float, ...] = TEMPERATURES) -> Tensor:
    """Multi-level logit distillation (Jin et al., CVPR 2023): instances, the batch and the classes.

    Summed over temperatures T, with P = softmax(z / T) as (B, K):
    T^2 KL(P_t || P_s) + ||P_t P_t^T - P_s P_s^T||^2 / B + ||P_t^T P_t - P_s^T P_s||^2 / K.

    Deviates: one view of each image and no confidence mask; the authors add a strongly augmented view.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).
        temperatures: each T; 2 to 6 in the authors' code.

    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> round(mlkd(S, T).item(), 4)
    0.5366
    """
    check_logits(student_logits, teacher_logits)
    if not temperatures:
        raise AttarError("mlkd has no temperatures; give one or more")
    return torch.stack([_at(student_logits, teacher_logits, temperature) for temperature in temperatures]).sum()


def _at(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """The three terms at one temperature."""
    instances = kl_divergence(student_logits, teacher_logits, temperature)
    student, teacher = (log_probabilities(logits, temperature).exp() for logits in (student_logits, teacher_logits))
    samples = (gram(teacher) - gram(student)).square().sum() / len(student)
    classes = (gram(teacher.mT) - gram(student.mT)).square().sum() / student.shape[1]
    return instances + samples + classes


@dataclass(eq=False, repr=False)
class MLKD(Loss):
    """`mlkd` as a module: loss(student_logits, teacher_logits)."""

    temperatures: tuple[float, ...] = TEMPERATURES

    def target_class(self) -> SummedTCKD:
        return SummedTCKD(self.temperatures)

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return mlkd(learner, source, self.temperatures)


@dataclass(eq=False, repr=False)
class SummedTCKD(Loss):
    """The part of the label's own class in `MLKD`, its instances': loss(student_logits, teacher_logits, labels)."""

    temperatures: tuple[float, ...] = TEMPERATURES

    def forward(self, learner: Tensor, source: Tensor, labels: Tensor) -> Tensor:
        return torch.stack([tckd(learner, source, labels, temperature) for temperature in self.temperatures]).sum()
