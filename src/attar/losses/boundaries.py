"""Losses on values before the ReLU, where the sign matters more than the size: AB and OFD."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from attar.losses.checks import check_same_shape, reduced
from attar.losses.features import ADAPT
from attar.losses.loss import Loss
from attar.losses.numerics import widen


def activation_boundary(
    student_map: Tensor, teacher_map: Tensor, margin: float = 1.0, reduction: str = "batchmean"
) -> Tensor:
    """A squared hinge that puts each student neuron on the teacher's side of zero, by a margin (AB, arXiv:1811.03233).

    (s + m)^2 where the teacher is off and s > -m; (s - m)^2 where it is on and s <= m; 0 elsewhere.

    Args:
        student_map: (B, C, H, W), before the ReLU.
        teacher_map: the same shape, before the ReLU.
        margin: m; 1 in the paper.
        reduction: "batchmean" (sum over all, divided by B), "mean", "sum" or "none".

    >>> s, t = torch.tensor([[0.5, -2.0, 0.2, 1.5]]), torch.tensor([[-1.0, 0.5, 0.3, 2.0]])
    >>> [round(term, 4) for term in activation_boundary(s, t, reduction="none")[0].tolist()]
    [2.25, 9.0, 0.64, 0.0]
    """
    check_same_shape(student_map, teacher_map, ADAPT)
    sign = torch.where(teacher_map > 0, 1.0, -1.0)
    return reduced((margin - sign * widen(student_map)).clamp(min=0.0).square(), reduction)


@dataclass(eq=False, repr=False)
class ActivationBoundary(Loss):
    """`activation_boundary` as a module: loss(student_map, teacher_map)."""

    margin: float = 1.0
    reduction: str = "batchmean"

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return activation_boundary(learner, source, self.margin, self.reduction)


def negative_mean(mean: Tensor, std: Tensor) -> Tensor:
    """OFD's margin: E[x | x < 0] of a channel that is normal with BN's beta and |gamma| (arXiv:1904.01866).

    Where x < 0 has a chance of at most 0.001 it is -3 |gamma|, as in the authors' code.

    Args:
        mean: (C,) the bias of the teacher's last batch norm.
        std: (C,) its weight; the sign does not matter.

    >>> [round(m, 4) for m in negative_mean(torch.tensor([0.0, 0.5, 4.0]), torch.ones(3)).tolist()]
    [-0.7979, -0.6411, -3.0]
    """
    mean, std = widen(mean), widen(std).abs()
    score = -mean / std
    chance = torch.special.ndtr(score)
    density = torch.exp(-score.square() / 2) / (2 * torch.pi) ** 0.5
    return torch.where(chance > 0.001, mean - std * density / chance, -3.0 * std)


def partial_l2(student_map: Tensor, teacher_map: Tensor, margin: Tensor, reduction: str = "batchmean") -> Tensor:
    """The squared error to max(t, m), left out where s <= max(t, m) <= 0 (OFD, Heo et al., arXiv:1904.01866).

    Args:
        student_map: (B, C, H, W), before the ReLU.
        teacher_map: the same shape, before the ReLU.
        margin: m, the `negative_mean` of each channel, shaped to broadcast: (C, 1, 1).
        reduction: "batchmean" (sum over all, divided by B, the authors' form), "mean", "sum" or "none".

    >>> s, t = torch.tensor([[1.0, -2.0, 0.5, -0.9, 2.0]]), torch.tensor([[2.0, -1.5, -0.3, -1.2, -0.4]])
    >>> [round(term, 4) for term in partial_l2(s, t, torch.tensor(-0.7979), reduction="none")[0].tolist()]
    [1.0, 0.0, 0.64, 0.0, 5.76]
    """
    check_same_shape(student_map, teacher_map, ADAPT)
    student, target = widen(student_map), torch.maximum(widen(teacher_map), widen(margin))
    counts = (student > target) | (target > 0)
    return reduced((student - target).square() * counts, reduction)


@dataclass(eq=False, repr=False)
class PartialL2(Loss):
    """`partial_l2` as a module: loss(student_map, teacher_map, margin)."""

    reduction: str = "batchmean"

    def forward(self, learner: Tensor, source: Tensor, margin: Tensor) -> Tensor:
        return partial_l2(learner, source, margin, self.reduction)
