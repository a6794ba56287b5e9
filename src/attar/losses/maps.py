"""Losses between feature maps: VID's Gaussian, the Wasserstein distance of WKD, ReviewKD's pyramid, CAT-KD's cells."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.errors import PairError
from attar.losses.checks import check_same_shape
from attar.losses.loss import Loss
from attar.losses.numerics import widen

_SMALL = 1e-5


class VariationalInformation(nn.Module):
    """VID: -log of a Gaussian around the regressed map, with a learnt variance per channel (arXiv:1904.05835).

    mean of ((mu - t)^2 / v + log v) / 2, v = softplus(a) + 1e-5.

    Args:
        channels: of the teacher's map.
        variance: v at the start (5).

    >>> loss = VariationalInformation(1)
    >>> round(loss(torch.full((1, 1, 1, 1), 0.7), torch.ones(1, 1, 1, 1)).item(), 4)
    0.8137
    """

    def __init__(self, channels: int, variance: float = 5.0) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.full((channels,), math.log(math.expm1(variance - _SMALL))))

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        check_same_shape(learner, source, "regress the student's map to the teacher's shape")
        variance = F.softplus(self.log_scale)[:, None, None] + _SMALL
        return 0.5 * ((widen(learner) - widen(source)).square() / variance + variance.log()).mean()


def gaussian_wasserstein(student_map: Tensor, teacher_map: Tensor, mean_weight: float = 4.0) -> Tensor:
    """WKD-F: W2 between the channels' Gaussians, w ||mu_s - mu_t||^2 + ||sd_s - sd_t||^2, batch mean
    (arXiv:2412.08139).

    Mean and deviation are over positions; the variance is the unbiased one, that of a single position 0, with 1e-5
    added below the root.

    Args:
        student_map: (B, C, H, W), projected.
        teacher_map: (B, C, H', W').
        mean_weight: w (4).

    >>> S = torch.tensor([[[[1.0, 2], [3, 4]], [[0, 0], [1, 1]]]])
    >>> T = torch.tensor([[[[2.0, 2], [2, 2]], [[1, 0], [1, 0]]]])
    >>> round(gaussian_wasserstein(S, T).item(), 4)
    2.6585
    """
    means, deviations = [], []
    for one in (widen(student_map).flatten(2), widen(teacher_map).flatten(2)):
        means.append(one.mean(2))
        variance = one.var(2) if one.shape[2] > 1 else torch.zeros_like(means[-1])
        deviations.append((variance + _SMALL).sqrt())
    gap = mean_weight * (means[0] - means[1]).square() + (deviations[0] - deviations[1]).square()
    return gap.sum(1).mean()


@dataclass(eq=False, repr=False)
class GaussianWasserstein(Loss):
    """`gaussian_wasserstein` as a module: loss(student_map, teacher_map)."""

    mean_weight: float = 4.0

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return gaussian_wasserstein(learner, source, self.mean_weight)


def hierarchical_context(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """ReviewKD's HCL: the squared error at full size and pooled to 4x4, 2x2 and 1x1 (arXiv:2104.09044).

    Weights 1, 1/2, 1/4, 1/8, normalised to sum 1; sizes that are not smaller than the map are left out.

    Args:
        student_map: (B, C, H, W).
        teacher_map: (B, C, H, W).

    >>> S = torch.arange(1.0, 17.0).reshape(2, 2, 2, 2) / 10
    >>> T = torch.tensor([1.0, 0, 2, 1, 0, 1, 1, 3, 2, 2, 0, 1, 1, 0, 1, 2]).reshape(2, 2, 2, 2) / 4
    >>> round(hierarchical_context(S, T).item(), 4)
    0.5523
    """
    check_same_shape(student_map, teacher_map, "bring the student's map to the teacher's shape")
    student, teacher = widen(student_map), widen(teacher_map)
    loss, total, weight = F.mse_loss(student, teacher), 1.0, 1.0
    for side in (4, 2, 1):
        if side >= student.shape[-2]:
            continue
        weight /= 2
        total += weight
        loss = loss + weight * F.mse_loss(F.adaptive_avg_pool2d(student, side), F.adaptive_avg_pool2d(teacher, side))
    return loss / total


@dataclass(eq=False, repr=False)
class HierarchicalContext(Loss):
    """`hierarchical_context` as a module: loss(student_map, teacher_map)."""

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return hierarchical_context(learner, source)


def class_activation(student_map: Tensor, teacher_map: Tensor, cells: int = 2, normalise: bool = False) -> Tensor:
    """CAT-KD: the squared error of class activation maps, pooled to cells x cells (arXiv:2304.12777).

    Args:
        student_map: (B, K, H, W), one channel a class.
        teacher_map: (B, K, H', W').
        cells: side of the pooled maps (2; 4 for ShuffleNets).
        normalise: scale each map to length 1 over space; for networks of different families.

    >>> S = torch.arange(1.0, 17.0).reshape(2, 2, 2, 2) / 10
    >>> T = torch.tensor([1.0, 0, 2, 1, 0, 1, 1, 3, 2, 2, 0, 1, 1, 0, 1, 2]).reshape(2, 2, 2, 2) / 4
    >>> [round(class_activation(S, T, normalise=flag).item(), 4) for flag in (False, True)]
    [0.5662, 0.0879]
    """
    student, teacher = (F.adaptive_avg_pool2d(widen(one), cells).flatten(2) for one in (student_map, teacher_map))
    check_same_shape(student, teacher, "class activation maps are compared over the same classes", PairError)
    if normalise:
        student, teacher = F.normalize(student, dim=2), F.normalize(teacher, dim=2)
    return F.mse_loss(student, teacher)


@dataclass(eq=False, repr=False)
class ClassActivation(Loss):
    """`class_activation` as a module: loss(student_map, teacher_map)."""

    cells: int = 2
    normalise: bool = False

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return class_activation(learner, source, self.cells, self.normalise)
