"""Distillation weighed by entropies: EA-KD by both networks' uncertainty, BD-KD by the gap between them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from attar.losses.checks import check_counts, check_logits, check_positive, row_weighted
from attar.losses.loss import Loss
from attar.losses.numerics import divergence_terms, log_probabilities


def entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """(B,): the entropy of softmax(z / T), in nats.

    >>> import torch
    >>> round(entropy(torch.zeros(1, 4)).item(), 4)
    1.3863
    """
    log_p = log_probabilities(logits, temperature)
    return -(log_p.exp() * log_p).sum(1)


def entropy_weights(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 3.0) -> Tensor:
    """(B,): H_t / 2 (1 + H_s / ln K), the weight that EA-KD gives each sample; without a gradient.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).
        temperature: of the entropies; 3 on CIFAR-100, 2 on ImageNet.
    """
    check_positive("the temperature", temperature)
    teacher, student = entropy(teacher_logits, temperature), entropy(student_logits, temperature)
    return (0.5 * teacher * (1 + student / math.log(student_logits.shape[1]))).detach()


def entropy_adaptive_kl(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 4.0, entropy_temperature: float = 3.0
) -> Tensor:
    """EA-KD: each sample's T^2 KL(p_t || p_s) times its `entropy_weights`, averaged over the batch (ICCV 2025).

    Deviates: the released KD class divides by 100 where the formula has ln 100; this is the formula.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).
        temperature: T of the divergence (4).
        entropy_temperature: of the weights (3).

    >>> import torch
    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> round(entropy_adaptive_kl(S, T).item(), 4)
    0.1047
    """
    check_logits(student_logits, teacher_logits)
    check_positive("the temperature", temperature)
    log_t, log_s = (log_probabilities(logits, temperature) for logits in (teacher_logits, student_logits))
    each = temperature**2 * divergence_terms(log_t, log_s).sum(1)
    return (entropy_weights(student_logits, teacher_logits, entropy_temperature) * each).mean()


@dataclass(eq=False, repr=False)
class EntropyAdaptiveKL(Loss):
    """`entropy_adaptive_kl` as a module: loss(student_logits, teacher_logits)."""

    temperature: float = 4.0
    entropy_temperature: float = 3.0

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return entropy_adaptive_kl(learner, source, self.temperature, self.entropy_temperature)


class EntropyWeighted(nn.Module):
    """Another loss on logits, each row of it times its `entropy_weights`: EA-KD's weights on any method.

    Args:
        loss: called as loss(learner, source, *given, weight=...); it has to take a weight (`Loss.counts`).
        temperature: of the entropies; 3 on CIFAR-100, 2 on ImageNet.

    Raises:
        AttarError: it takes none.

    >>> import torch
    >>> from attar.losses import KLDivergence
    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> round(EntropyWeighted(KLDivergence(4.0))(S, T).item(), 4)
    0.1047
    """

    counts = True

    def __init__(self, loss: nn.Module, temperature: float = 3.0) -> None:
        super().__init__()
        check_counts(loss)
        check_positive("the temperature", temperature)
        self.loss, self.temperature = loss, temperature

    def forward(self, learner: Tensor, source: Tensor, *given: Tensor, weight: Tensor | None = None) -> Tensor:
        check_logits(learner, source)
        rows = entropy_weights(learner, source, self.temperature)
        return row_weighted(self.loss, (learner, source, *given), rows, weight)


def balanced_divergence(
    student_logits: Tensor, teacher_logits: Tensor, delta: float = 2.0, temperature: float = 1.0
) -> Tensor:
    """BD-KD's student loss: forward and reverse KL, one of them weighed by `delta` (arXiv:2212.12965).

    T^2 mean of w_f KL(p_t || p_s) + w_r KL(p_s || p_t), with (w_f, w_r) = (delta, 1) where the teacher's entropy is
    the larger one (the student is over-confident), else (1, delta).

    Reconstructed: that the weights follow the gap of entropies is the paper's; their values are not known.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).
        delta: weight of the emphasised direction, 1 or more; ours.
        temperature: T; ours.

    >>> import torch
    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> round(balanced_divergence(S, T).item(), 4), round(balanced_divergence(S, T, delta=1.0).item(), 4)
    (0.2239, 0.1448)
    """
    check_logits(student_logits, teacher_logits)
    check_positive("the temperature", temperature)
    log_t, log_s = (log_probabilities(logits, temperature) for logits in (teacher_logits, student_logits))
    forward, reverse = divergence_terms(log_t, log_s).sum(1), divergence_terms(log_s, log_t).sum(1)
    over_confident = (entropy(teacher_logits, temperature) > entropy(student_logits, temperature)).detach()
    weighted = (1 + (delta - 1) * over_confident) * forward + (1 + (delta - 1) * ~over_confident) * reverse
    return temperature**2 * weighted.mean()


@dataclass(eq=False, repr=False)
class BalancedDivergence(Loss):
    """`balanced_divergence` as a module: loss(student_logits, teacher_logits)."""

    delta: float = 2.0
    temperature: float = 1.0

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return balanced_divergence(learner, source, self.delta, self.temperature)
