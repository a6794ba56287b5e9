"""Losses that treat the label's own class apart from the others: DKD and NKD."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from attar.losses.checks import check_logits, check_positive, label_mask, reduced
from attar.losses.loss import Loss
from attar.losses.numerics import divergence_terms, log_probabilities, log_probabilities_among, widen


def _target_or_not(logits: Tensor, own: Tensor, temperature: float) -> Tensor:
    """(B, 2): log p_y and log (1 - p_y), the latter summed over the other classes so that it cannot underflow."""
    log_p = log_probabilities(logits, temperature)
    log_own = log_p.masked_fill(~own, -math.inf).logsumexp(1)
    log_rest = log_p.masked_fill(own, -math.inf).logsumexp(1)
    return torch.stack([log_own, log_rest], dim=1)


def _among_others(logits: Tensor, own: Tensor, temperature: float) -> Tensor:
    """(B, K): the log softmax over all classes but the label's own, whose place holds 0."""
    return log_probabilities_among(logits, own, temperature).masked_fill(own, 0.0)


def tckd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    temperature: float = 4.0,
    reduction: str = "batchmean",
    weight: Tensor | None = None,
) -> Tensor:
    """Target-class distillation: T^2 KL between the pairs (p_y, 1 - p_y) of teacher and student (part of DKD).

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).
        labels: (B,) class numbers.
        temperature: T; 4 in the paper's CIFAR-100 recipe.
        reduction: over the batch: "batchmean", "mean" (the same), "sum" or "none" (B,).
        weight: (B,) how much each row counts; None: all alike.

    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> round(tckd(S, T, torch.tensor([0, 1])).item(), 4)
    0.0794
    """
    check_logits(student_logits, teacher_logits)
    check_positive("the temperature", temperature)
    own = label_mask(student_logits, labels)
    pairs = (_target_or_not(logits, own, temperature) for logits in (teacher_logits, student_logits))
    return reduced(temperature**2 * divergence_terms(*pairs).sum(1), reduction, weight)


def nckd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    temperature: float = 4.0,
    reduction: str = "batchmean",
    weight: Tensor | None = None,
) -> Tensor:
    """Non-target distillation: T^2 KL between the softmaxes over all classes but the label's own (part of DKD).

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).
        labels: (B,) class numbers.
        temperature: T; 4 in the paper's CIFAR-100 recipe.
        reduction: over the batch: "batchmean", "mean" (the same), "sum" or "none" (B,).
        weight: (B,) how much each row counts; None: all alike.

    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> round(nckd(S, T, torch.tensor([0, 1])).item(), 4)
    0.0405
    """
    check_logits(student_logits, teacher_logits)
    check_positive("the temperature", temperature)
    own = label_mask(student_logits, labels)
    others = (_among_others(logits, own, temperature) for logits in (teacher_logits, student_logits))
    return reduced(temperature**2 * divergence_terms(*others).sum(1), reduction, weight)


def dkd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    weight: Tensor | None = None,
) -> Tensor:
    """Decoupled knowledge distillation: alpha TCKD + beta NCKD (Zhao et al., arXiv:2203.08679).

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).
        labels: (B,) class numbers.
        alpha: the weight of `tckd`; 1 in the paper.
        beta: the weight of `nckd`; by pair in the recipes: ResNet-56 to 20 has 2, WRN and VGG 6, ResNet-32x4 to 8x4 8.
        temperature: T; 4 on CIFAR-100, 1 on ImageNet.
        weight: (B,) how much each row counts; None: all alike.

    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> round(dkd(S, T, torch.tensor([0, 1])).item(), 4)
    0.4036
    """
    target = tckd(student_logits, teacher_logits, labels, temperature, weight=weight)
    return alpha * target + beta * nckd(student_logits, teacher_logits, labels, temperature, weight=weight)


@dataclass(eq=False, repr=False)
class DKD(Loss):
    """`dkd` as a module: loss(student_logits, teacher_logits, labels)."""

    alpha: float = 1.0
    beta: float = 8.0
    temperature: float = 4.0
    counts: ClassVar[bool] = True

    def target_class(self) -> DKD:
        return DKD(self.alpha, 0.0, self.temperature)

    def forward(self, learner: Tensor, source: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        return dkd(learner, source, labels, self.alpha, self.beta, self.temperature, weight)


def nkd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    gamma: float = 1.5,
    temperature: float = 1.0,
    weight: Tensor | None = None,
) -> Tensor:
    """Normalised distillation: -p_t,y log p_s,y, and gamma T^2 times the cross-entropy among the other classes.

    Yang et al., arXiv:2303.13005. The target term has no temperature.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).
        labels: (B,) class numbers.
        gamma: the weight of the non-target term; 1.5 in the paper on ImageNet.
        temperature: T of the non-target term; 1 in the paper on ImageNet.
        weight: (B,) how much each row counts; None: all alike.

    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> round(nkd(S, T, torch.tensor([0, 1])).item(), 4)
    1.2599
    """
    check_logits(student_logits, teacher_logits)
    check_positive("the temperature", temperature)
    own = label_mask(student_logits, labels)
    target = log_probabilities(teacher_logits).exp() * log_probabilities(student_logits)
    others_t, others_s = (_among_others(logits, own, temperature) for logits in (teacher_logits, student_logits))
    # At the label's own place the student's others hold 0, so the product vanishes there.
    others = gamma * temperature**2 * (others_t.exp() * others_s)
    return reduced(-(target.masked_fill(~own, 0.0) + others).sum(1), "mean", weight)


@dataclass(eq=False, repr=False)
class NKD(Loss):
    """`nkd` as a module: loss(student_logits, teacher_logits, labels)."""

    gamma: float = 1.5
    temperature: float = 1.0
    counts: ClassVar[bool] = True

    def target_class(self) -> TargetClass:
        return TargetClass()

    def without_temperature(self) -> TargetClass:
        return TargetClass()

    def forward(self, learner: Tensor, source: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        return nkd(learner, source, labels, self.gamma, self.temperature, weight)


@dataclass(eq=False, repr=False)
class TargetClass(Loss):
    """The first part of `nkd`, -p_t,y log p_s,y, as a module: loss(student_logits, teacher_logits, labels)."""

    counts: ClassVar[bool] = True

    def forward(self, learner: Tensor, source: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        return nkd(learner, source, labels, gamma=0.0, weight=weight)


class OtherClasses(nn.Module):
    """What is left of a loss without its part of the label's own class: of KL (1 - p_t,y) NCKD, of DKD beta NCKD.

    Args:
        loss: the whole loss.
        target: its part of the label's own class.
        given: how much of what follows learner and source the whole loss takes; the target takes all of it.

    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> labels = torch.tensor([0, 1])
    >>> round(OtherClasses(DKD(), DKD().target_class(), given=1)(S, T, labels).item() / 8, 4)
    0.0405
    """

    def __init__(self, loss: nn.Module, target: nn.Module, given: int) -> None:
        super().__init__()
        self.loss, self.target, self.given = loss, target, given
        self.counts = getattr(loss, "counts", False)

    def forward(self, learner: Tensor, source: Tensor, *given: Tensor, **weight: Tensor) -> Tensor:
        whole = self.loss(learner, source, *given[: self.given], **weight)
        return whole - self.target(learner, source, *given, **weight)


def top_nckd(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, kept: float | Tensor, temperature: float = 4.0
) -> Tensor:
    """`nckd` among the teacher's `kept` largest classes that are not the label's (DeepKD, arXiv:2505.15133).

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).
        labels: (B,) class numbers.
        kept: how many classes are compared, at least 1; K - 1 or more: all.
        temperature: T.

    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> [round(top_nckd(S, T, torch.tensor([0, 1]), kept).item(), 4) for kept in (1, 2)]  # one class: nothing to match
    [0.0, 0.0405]
    """
    check_logits(student_logits, teacher_logits)
    check_positive("the temperature", temperature)
    own = label_mask(student_logits, labels)
    rank = widen(teacher_logits).masked_fill(own, -math.inf).argsort(1, descending=True).argsort(1)
    out = own | (rank >= kept)
    others = (_among_others(logits, out, temperature) for logits in (teacher_logits, student_logits))
    terms = divergence_terms(*others).masked_fill(out, 0.0)
    return temperature**2 * terms.sum(1).mean()


@dataclass(eq=False, repr=False)
class TCKD(Loss):
    """`tckd` as a module: loss(student_logits, teacher_logits, labels)."""

    temperature: float = 4.0
    counts: ClassVar[bool] = True

    def forward(self, learner: Tensor, source: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        return tckd(learner, source, labels, self.temperature, weight=weight)


@dataclass(eq=False, repr=False)
class TopNCKD(Loss):
    """`top_nckd` as a module: loss(student_logits, teacher_logits, labels, kept)."""

    temperature: float = 4.0

    def forward(self, learner: Tensor, source: Tensor, labels: Tensor, kept: Tensor) -> Tensor:
        return top_nckd(learner, source, labels, kept, self.temperature)
