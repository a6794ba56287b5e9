"""Losses between feature maps: VID's Gaussian, the Wasserstein distance of WKD, ReviewKD's pyramid, CAT-KD's cells."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.errors import AttarError, PairError
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


def gaussian_wasserstein(student_map: Tensor, teacher_map: Tensor, mean_weight: float = 4.0, grid: int = 1) -> Tensor:
    """WKD-F: W2 between the channels' Gaussians, w ||mu_s - mu_t||^2 + ||sd_s - sd_t||^2, the mean over images and
    cells (arXiv:2412.08139).

    Mean and deviation are over the positions of a cell; the variance is the unbiased one, that of a single position 0,
    with 1e-5 added below the root.

    Args:
        student_map: (B, C, H, W), projected.
        teacher_map: (B, C, H', W').
        mean_weight: w (4).
        grid: cells along each side of a map; where a side is no multiple of it, cells overlap as in adaptive pooling.

    Raises:
        AttarError: more cells than positions.

    >>> S = torch.tensor([[[[1.0, 2], [3, 4]], [[0, 0], [1, 1]]]])
    >>> T = torch.tensor([[[[2.0, 2], [2, 2]], [[1, 0], [1, 0]]]])
    >>> round(gaussian_wasserstein(S, T).item(), 4), round(gaussian_wasserstein(S, T, grid=2).item(), 4)
    (2.6585, 8.0)
    """
    total = student_map.new_zeros((), dtype=widen(student_map).dtype)
    for own, theirs in zip(cells(widen(student_map), grid), cells(widen(teacher_map), grid), strict=True):
        (mean_s, deviation_s), (mean_t, deviation_t) = _moments(own), _moments(theirs)
        gap = mean_weight * (mean_s - mean_t).square() + (deviation_s - deviation_t).square()
        total = total + gap.sum(1).mean()
    return total / grid**2


def cells(feature: Tensor, grid: int) -> Iterator[Tensor]:
    """The cells of a map (B, C, H, W), row by row, each (B, C, positions); bounds are those of adaptive pooling.

    Raises:
        AttarError: more cells than positions.

    >>> [cell.flatten().tolist() for cell in cells(torch.arange(9.0).reshape(1, 1, 3, 3), 2)]
    [[0.0, 1.0, 3.0, 4.0], [1.0, 2.0, 4.0, 5.0], [3.0, 4.0, 6.0, 7.0], [4.0, 5.0, 7.0, 8.0]]
    """
    sides = feature.shape[2:]
    if not 1 <= grid <= min(sides):
        raise AttarError(f"grid={grid}: expected 1 or more and no more than the map's {sides[0]}x{sides[1]} positions")
    rows, columns = ([(k * side // grid, -(-(k + 1) * side // grid)) for k in range(grid)] for side in sides)
    for top, bottom in rows:
        for left, right in columns:
            yield feature[:, :, top:bottom, left:right].flatten(2)


def _moments(cell: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation over the positions of (B, C, positions)."""
    mean = cell.mean(2)
    variance = cell.var(2) if cell.shape[2] > 1 else torch.zeros_like(mean)
    return mean, (variance + _SMALL).sqrt()


@dataclass(eq=False, repr=False)
class GaussianWasserstein(Loss):
    """`gaussian_wasserstein` as a module: loss(student_map, teacher_map)."""

    mean_weight: float = 4.0
    grid: int = 1

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return gaussian_wasserstein(learner, source, self.mean_weight, self.grid)


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
