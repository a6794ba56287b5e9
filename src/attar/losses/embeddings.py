"""Losses between feature vectors: cosine (PEFD), whitened smooth L1 (VkD), cross-correlation, direction (KD++)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from attar.errors import PairError
from attar.losses.checks import check_same_shape
from attar.losses.loss import Loss
from attar.losses.numerics import product, widen

_SMALL, _TINY = 1e-5, 1e-24


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cos of the two vectors of each sample, averaged over the batch.

    Args:
        student: (B, D).
        teacher: (B, D).

    >>> import torch
    >>> round(cosine_distance(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]])).item(), 4)
    0.2929
    """
    check_same_shape(student, teacher, "project the student's features to the teacher's width", PairError)
    return (1 - F.cosine_similarity(widen(student), widen(teacher), dim=1)).mean()


@dataclass(eq=False, repr=False)
class CosineDistance(Loss):
    """`cosine_distance` as a module: loss(student, teacher)."""

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return cosine_distance(learner, source)


def normalised_smooth_l1(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth L1 between a projected feature and the teacher's after a LayerNorm without weights (VkD).

    Args:
        student: (B, D).
        teacher: (B, D).

    >>> import torch
    >>> round(normalised_smooth_l1(torch.zeros(1, 2), torch.tensor([[1.0, 3.0]])).item(), 4)
    0.5
    """
    check_same_shape(student, teacher, "project the student's features to the teacher's width")
    return F.smooth_l1_loss(widen(student), F.layer_norm(widen(teacher), teacher.shape[1:]))


@dataclass(eq=False, repr=False)
class NormalisedSmoothL1(Loss):
    """`normalised_smooth_l1` as a module: loss(student, teacher)."""

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return normalised_smooth_l1(learner, source)


def redundancy(student: Tensor, teacher: Tensor, kappa: float = 0.01) -> Tensor:
    """Cross-correlation of two embeddings against the identity: sum (R_dd - 1)^2 + kappa * sum of R_de^2, d != e.

    R = n(teacher)^T n(student) / B, n the batch's standardisation with the biased deviation + 1e-5. A plain sum: the
    value grows with D, as in the released code (redundancy suppression, ICCV 2025).

    Args:
        student: (B, D), projected.
        teacher: (B, D).
        kappa: weight of the off-diagonal (0.01).

    >>> import torch
    >>> V = torch.tensor([[1.0, 0, 2], [0, 1, 1], [2, 1, 0]])
    >>> round(redundancy(V, torch.tensor([[1.0, 1, 0], [0, 2, 1], [0, 0, 1]])).item(), 4)
    5.5219
    """
    check_same_shape(student, teacher, "project the student's features to the teacher's width")
    units = []
    for rows in (widen(teacher), widen(student)):
        centred = rows - rows.mean(0)
        # The root of 0 has no gradient: a feature that is constant in the batch gets that of a tiny one.
        units.append(centred / ((centred.square().mean(0) + _TINY).sqrt() + _SMALL))
    correlation = product(units[0].mT, units[1]) / len(student)
    diagonal = correlation.diagonal()
    return (diagonal - 1).square().sum() + kappa * (correlation.square().sum() - diagonal.square().sum())


@dataclass(eq=False, repr=False)
class Redundancy(Loss):
    """`redundancy` as a module: loss(student, teacher)."""

    kappa: float = 0.01
    whole_batch: ClassVar[bool] = True  # correlations over the batch

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return redundancy(learner, source, self.kappa)


def norm_direction(student: Tensor, teacher: Tensor, direction: Tensor) -> Tensor:
    """KD++'s ND: 1 - <f_s, e> / max(|f_s|, |f_t|), averaged over the batch (arXiv:2305.17007).

    Args:
        student: (B, D).
        teacher: (B, D).
        direction: (B, D), e, the unit vector of the teacher's mean feature of each image's class.

    >>> import torch
    >>> f, t, e = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 10.0]]), torch.tensor([[0.0, 1.0]])
    >>> round(norm_direction(f, t, e).item(), 4)
    0.6
    """
    check_same_shape(student, teacher, "project the student's features to the teacher's width")
    own, theirs = widen(student), widen(teacher)
    longest = torch.maximum(own.norm(dim=1), theirs.norm(dim=1)).clamp(min=_SMALL)
    return (1 - (own * widen(direction)).sum(1) / longest).mean()


@dataclass(eq=False, repr=False)
class NormDirection(Loss):
    """`norm_direction` as a module: loss(student, teacher, direction)."""

    def forward(self, learner: Tensor, source: Tensor, direction: Tensor) -> Tensor:
        return norm_direction(learner, source, direction)
