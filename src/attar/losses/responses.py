"""Losses between predictions: cross-entropy, the divergences, and the squared error of logits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from attar.batch import on_device
from attar.losses.checks import check_logits, check_positive, check_same_shape, label_mask, reduced
from attar.losses.decoupled import TCKD
from attar.losses.loss import Loss
from attar.losses.numerics import divergence_terms, log_probabilities, widen


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    class_weights: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """Cross-entropy with the labels: -log p_y, the loss of labels as a teacher.

    Args:
        logits: (B, K).
        labels: (B,) class numbers, or (B, K) probabilities (mixed labels).
        label_smoothing: the share of the target that is spread over all classes.
        reduction: over the batch: "mean" (which "batchmean" equals), "sum" or "none" (B,).
        class_weights: (K,) how much each class counts; the mean is then a weighted one, over the weights of the labels,
            as `torch.nn.functional.cross_entropy` has it for class numbers. Deviates: it has it for probabilities too,
            so that they and class numbers agree; torch divides those by B. None: all alike.
        weight: (B,) how much each row counts; see `attar.losses.checks.reduced`. None: all alike.

    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> round(cross_entropy(S, torch.tensor([0, 1])).item(), 4)
    0.3185
    """
    if labels.is_floating_point():
        check_same_shape(logits, labels, "give class numbers (B,) or probabilities (B, K)")
        labels = widen(labels)
    else:
        label_mask(logits, labels)
    logits = widen(logits)
    if class_weights is not None:
        class_weights = class_weights.to(logits)
        check_same_shape(logits[0], class_weights, "give one weight a class")
    terms = F.cross_entropy(logits, labels, class_weights, reduction="none", label_smoothing=label_smoothing)
    if class_weights is None or reduction not in ("mean", "batchmean"):
        return reduced(terms, reduction, weight)
    # No matrix product, which autocast would round.
    counted = labels * class_weights if labels.is_floating_point() else class_weights[labels]
    return reduced(terms, "sum", weight) / reduced(counted, "sum", weight)


@dataclass(eq=False, repr=False)
class CrossEntropy(Loss):
    """`cross_entropy` as a module: loss(logits, labels)."""

    label_smoothing: float = 0.0
    reduction: str = "mean"
    class_weights: tuple[float, ...] | None = None
    counts: ClassVar[bool] = True
    # Labels of one dimension are numbers of classes, which can be checked before they are compared.
    class_numbers: ClassVar[bool] = True

    @property
    def whole_batch(self) -> bool:
        """A weighted mean of slices of a batch is not that of the batch."""
        return self.class_weights is not None

    def forward(self, learner: Tensor, source: Tensor, weight: Tensor | None = None) -> Tensor:
        weights = None if self.class_weights is None else on_device(learner.device, self.class_weights)
        return cross_entropy(learner, source, self.label_smoothing, self.reduction, weights, weight)


def kl_divergence(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float | Tensor = 4.0,
    reduction: str = "batchmean",
    weight: Tensor | None = None,
) -> Tensor:
    """T^2 KL(p_t || p_s) with p = softmax(z / T): knowledge distillation (Hinton et al., arXiv:1503.02531).

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).
        temperature: T; a tensor, of one element or (B, 1), may be learnt. 4 is the usual setting on CIFAR-100.
        reduction: "batchmean" (sum over classes, mean over the batch), "mean", "sum" or "none" (B, K).
        weight: (B,) how much each row counts; None: all alike.

    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> round(kl_divergence(S, T).item(), 4)
    0.1028
    """
    check_logits(student_logits, teacher_logits)
    check_positive("the temperature", temperature)
    log_t, log_s = log_probabilities(teacher_logits, temperature), log_probabilities(student_logits, temperature)
    return reduced(temperature**2 * divergence_terms(log_t, log_s), reduction, weight)


@dataclass(eq=False, repr=False)
class KLDivergence(Loss):
    """`kl_divergence` as a module: loss(student_logits, teacher_logits)."""

    temperature: float = 4.0
    reduction: str = "batchmean"
    counts: ClassVar[bool] = True

    def target_class(self) -> TCKD | None:
        return TCKD(self.temperature) if self.reduction == "batchmean" else None

    def forward(self, learner: Tensor, source: Tensor, weight: Tensor | None = None) -> Tensor:
        return kl_divergence(learner, source, self.temperature, self.reduction, weight)


def reverse_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float | Tensor = 4.0,
    reduction: str = "batchmean",
    weight: Tensor | None = None,
) -> Tensor:
    """T^2 KL(p_s || p_t): the student's own distribution comes first, which makes it seek the teacher's modes.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).
        temperature: T, as in `kl_divergence`.
        reduction: as in `kl_divergence`.
        weight: as in `kl_divergence`.

    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> round(reverse_kl(S, T).item(), 4)
    0.1011
    """
    return kl_divergence(teacher_logits, student_logits, temperature, reduction, weight)


@dataclass(eq=False, repr=False)
class ReverseKL(Loss):
    """`reverse_kl` as a module: loss(student_logits, teacher_logits)."""

    temperature: float = 4.0
    reduction: str = "batchmean"
    counts: ClassVar[bool] = True

    def forward(self, learner: Tensor, source: Tensor, weight: Tensor | None = None) -> Tensor:
        return reverse_kl(learner, source, self.temperature, self.reduction, weight)


def jensen_shannon(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float | Tensor = 4.0,
    reduction: str = "batchmean",
    weight: Tensor | None = None,
) -> Tensor:
    """T^2 [KL(p_t || m) + KL(p_s || m)] / 2 with m = (p_t + p_s) / 2: symmetric, at most T^2 log 2.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).
        temperature: T, as in `kl_divergence`.
        reduction: as in `kl_divergence`.
        weight: as in `kl_divergence`.

    >>> far = torch.tensor([[100.0, -100.0]])
    >>> round(jensen_shannon(far, -far, temperature=1.0).item(), 4)  # log 2
    0.6931
    """
    check_logits(student_logits, teacher_logits)
    check_positive("the temperature", temperature)
    log_t, log_s = log_probabilities(teacher_logits, temperature), log_probabilities(student_logits, temperature)
    log_m = torch.logaddexp(log_t, log_s) - math.log(2.0)
    terms = (divergence_terms(log_t, log_m) + divergence_terms(log_s, log_m)) / 2
    return reduced(temperature**2 * terms, reduction, weight)


@dataclass(eq=False, repr=False)
class JensenShannon(Loss):
    """`jensen_shannon` as a module: loss(student_logits, teacher_logits)."""

    temperature: float = 4.0
    reduction: str = "batchmean"
    counts: ClassVar[bool] = True

    def forward(self, learner: Tensor, source: Tensor, weight: Tensor | None = None) -> Tensor:
        return jensen_shannon(learner, source, self.temperature, self.reduction, weight)


def logits_mse(
    student_logits: Tensor, teacher_logits: Tensor, reduction: str = "mean", weight: Tensor | None = None
) -> Tensor:
    """The squared error between logits (Ba and Caruana, arXiv:1312.6184).

    Deviates: the mean over all elements, without the paper's factor 1/2 and sum over classes.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).
        reduction: "mean" (over every element), "batchmean", "sum" or "none" (B, K).
        weight: (B,) how much each row counts; None: all alike.

    >>> logits_mse(torch.tensor([[2.0, 1.0]]), torch.tensor([[3.0, 3.0]])).item()
    2.5
    """
    check_logits(student_logits, teacher_logits)
    return reduced((widen(student_logits) - widen(teacher_logits)).square(), reduction, weight)


@dataclass(eq=False, repr=False)
class LogitsMSE(Loss):
    """`logits_mse` as a module: loss(student_logits, teacher_logits)."""

    reduction: str = "mean"
    counts: ClassVar[bool] = True

    def forward(self, learner: Tensor, source: Tensor, weight: Tensor | None = None) -> Tensor:
        return logits_mse(learner, source, self.reduction, weight)
