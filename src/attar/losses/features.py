"""Losses between feature maps, element by element or map by map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from attar.errors import PairError
from attar.losses.checks import check_same_batch, check_same_shape, reduced
from attar.losses.loss import Loss
from attar.losses.numerics import product, widen

ADAPT = "put an adapter (via=) on the learner's side"


def mse(student_map: Tensor, teacher_map: Tensor, reduction: str = "mean", weight: Tensor | None = None) -> Tensor:
    """The mean squared error between feature maps: hints (FitNet, Romero et al., arXiv:1412.6550), SimKD, ATSC.

    Args:
        student_map: (B, C, H, W), or any shape; a regressor brings it to the teacher's.
        teacher_map: the same shape.
        reduction: "mean" (over every element), "batchmean", "sum" or "none".
        weight: (B,) how much each row counts; None: all alike.

    Raises:
        AttarError: the shapes differ.

    >>> import torch
    >>> mse(torch.zeros(1, 2, 2, 2), torch.full((1, 2, 2, 2), 3.0)).item()
    9.0
    """
    check_same_shape(student_map, teacher_map, ADAPT)
    return reduced((widen(student_map) - widen(teacher_map)).square(), reduction, weight)


@dataclass(eq=False, repr=False)
class MSE(Loss):
    """`mse` as a module: loss(student_map, teacher_map)."""

    reduction: str = "mean"
    counts: ClassVar[bool] = True

    def forward(self, learner: Tensor, source: Tensor, weight: Tensor | None = None) -> Tensor:
        return mse(learner, source, self.reduction, weight)


def same_size(student_map: Tensor, teacher_map: Tensor) -> tuple[Tensor, Tensor]:
    """Two (B, C, H, W) maps at one resolution: the larger is average-pooled to the smaller, widened both."""
    check_same_batch(student_map, teacher_map)
    if student_map.ndim != 4 or teacher_map.ndim != 4:
        raise PairError(
            f"the learner has shape {tuple(student_map.shape)}, the source {tuple(teacher_map.shape)}; "
            "expected maps (B, C, H, W), tap a stage before pooling"
        )
    height, width = (min(a, b) for a, b in zip(student_map.shape[2:], teacher_map.shape[2:], strict=True))
    pooled = (F.adaptive_avg_pool2d(widen(feature), (height, width)) for feature in (student_map, teacher_map))
    return next(pooled), next(pooled)


def at(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Attention transfer: mean (Q_s - Q_t)^2, Q the normalised map of mean squared channels (arXiv:1612.03928).

    Channels may differ; of two resolutions the larger map is average-pooled first.

    Args:
        student_map: (B, C_s, H_s, W_s).
        teacher_map: (B, C_t, H_t, W_t).

    Deviates: the mean over positions, as the public benchmarks have it (weight 1000), not the paper's norm.

    >>> import torch
    >>> F_s = torch.arange(1.0, 17.0).reshape(2, 2, 2, 2) / 10
    >>> F_t = torch.tensor([1.0, 0, 2, 1, 0, 1, 1, 3, 2, 2, 0, 1, 1, 0, 1, 2]).reshape(2, 2, 2, 2) / 4
    >>> round(at(F_s, F_t).item(), 4)
    0.0436
    """
    student, teacher = (
        F.normalize(feature.square().mean(1).flatten(1)) for feature in same_size(student_map, teacher_map)
    )
    return (student - teacher).square().mean()


class AttentionTransfer(Loss):
    """`at` as a module: loss(student_map, teacher_map)."""

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return at(learner, source)


def nst(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Neuron selectivity transfer: the MMD, kernel (a b)^2, between channels normalised over space (arXiv:1707.01219).

    Channels may differ; of two resolutions the larger map is average-pooled first.

    Args:
        student_map: (B, C_s, H_s, W_s).
        teacher_map: (B, C_t, H_t, W_t).

    >>> import torch
    >>> F_s = torch.arange(1.0, 17.0).reshape(2, 2, 2, 2) / 10
    >>> F_t = torch.tensor([1.0, 0, 2, 1, 0, 1, 1, 3, 2, 2, 0, 1, 1, 0, 1, 2]).reshape(2, 2, 2, 2) / 4
    >>> round(nst(F_s, F_t).item(), 4)
    0.2381
    """
    student, teacher = (F.normalize(feature.flatten(2), dim=2) for feature in same_size(student_map, teacher_map))
    within_s, within_t, across = (
        product(left, right.mT).square().mean()
        for left, right in ((student, student), (teacher, teacher), (student, teacher))
    )
    return within_s + within_t - 2.0 * across


class NST(Loss):
    """`nst` as a module: loss(student_map, teacher_map)."""

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return nst(learner, source)
