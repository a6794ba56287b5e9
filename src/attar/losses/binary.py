"""Losses of labels that do not exclude each other: every logit has a sigmoid of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from attar.errors import AttarError
from attar.losses.checks import check_logits, check_positive, reduced
from attar.losses.loss import Loss
from attar.losses.numerics import widen


def binary_cross_entropy(
    logits: Tensor, labels: Tensor, reduction: str = "mean", weight: Tensor | None = None
) -> Tensor:
    """-[y log p + (1 - y) log(1 - p)] with p = sigmoid(z), for each of K labels.

    Args:
        logits: (B, K).
        labels: (B, K), bool: which labels each image has.
        reduction: "mean" (over images and labels), "batchmean" (summed over labels), "sum" or "none" (B, K).
        weight: (B,) how much each row counts; None: all alike.

    >>> import torch
    >>> labels = torch.tensor([[True, False, True]])
    >>> round(binary_cross_entropy(torch.tensor([[2.0, -1.0, 0.0]]), labels).item(), 4)
    0.3778
    """
    if logits.shape != labels.shape:
        raise AttarError(
            f"the label logits have shape {tuple(logits.shape)}, the labels {tuple(labels.shape)}; give every image "
            "true or false for each label (B, K)"
        )
    logits = widen(logits)
    terms = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="none")
    return reduced(terms, reduction, weight)


@dataclass(eq=False, repr=False)
class BinaryCrossEntropy(Loss):
    """`binary_cross_entropy` as a module: loss(logits, labels)."""

    reduction: str = "mean"
    counts: ClassVar[bool] = True

    def forward(self, learner: Tensor, source: Tensor, weight: Tensor | None = None) -> Tensor:
        return binary_cross_entropy(learner, source, self.reduction, weight)


def binary_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 1.0,
    reduction: str = "batchmean",
    weight: Tensor | None = None,
) -> Tensor:
    """T^2 KL(p_t || p_s) of each label's two probabilities (p, 1 - p) with p = sigmoid(z / T).

    With T = 1, summed over labels and averaged over the batch, it is the multi-label logits distillation (MLD, one
    label against all others) of L2D (Yang et al., Multi-Label Knowledge Distillation, ICCV 2023). Deviates: it is
    computed from logits, not from probabilities clamped to [1e-8, 1 - 1e-8]. The temperature is ours, as in
    `kl_divergence`.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).
        temperature: T.
        reduction: "batchmean" (sum over labels, mean over the batch), "mean" (over both), "sum" or "none" (B, K).
        weight: (B,) how much each row counts; None: all alike.

    >>> import torch
    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> round(binary_kl(S, T).item(), 6)
    0.041474
    """
    check_logits(student_logits, teacher_logits)
    check_positive("the temperature", temperature)
    own, theirs = widen(student_logits) / temperature, widen(teacher_logits) / temperature
    present = theirs.sigmoid() * (F.logsigmoid(theirs) - F.logsigmoid(own))
    absent = (-theirs).sigmoid() * (F.logsigmoid(-theirs) - F.logsigmoid(-own))
    return reduced(temperature**2 * (present + absent), reduction, weight)


@dataclass(eq=False, repr=False)
class BinaryKL(Loss):
    """`binary_kl` as a module: loss(student_logits, teacher_logits)."""

    temperature: float = 1.0
    reduction: str = "batchmean"
    counts: ClassVar[bool] = True

    def forward(self, learner: Tensor, source: Tensor, weight: Tensor | None = None) -> Tensor:
        return binary_kl(learner, source, self.temperature, self.reduction, weight)
