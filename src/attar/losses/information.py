"""Renyi entropies of features: the correlation and mutual-information losses of ITRD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from attar.errors import AttarError
from attar.losses.checks import check_positive, check_same_shape
from attar.losses.loss import Loss
from attar.losses.numerics import gram, widen


def correlation_information(student: Tensor, teacher: Tensor, alpha: float = 1.01) -> Tensor:
    """log2 of the sum over features of |r - 1|^(2 alpha), r a feature's correlation over the batch (arXiv:2112.00459).

    As the authors' code: both are divided by the unbiased deviation and the products averaged over B, so that r of
    equal features is (B - 1) / B.

    Args:
        student: (B, D) with B of 2 at least.
        teacher: (B, D).
        alpha: order of the entropy; 1.01 for networks of one kind, 1.5 for others.

    Raises:
        AttarError: a batch of one, which has no correlation.

    >>> import torch
    >>> s = torch.tensor([[1.0, 2.0], [0.0, 1.0], [3.0, 1.0]])
    >>> t = torch.tensor([[2.0, 2.0], [1.0, 0.0], [1.0, 1.0]])
    >>> round(correlation_information(s, t).item(), 4)
    0.5325
    """
    check_same_shape(student, teacher)
    check_positive("alpha", alpha)
    if len(student) < 2:
        raise AttarError("itrd correlates features over a batch, and this one has a single row; give two or more")
    one, other = ((x - x.mean(0)) / x.std(0).clamp_min(1e-8) for x in (widen(student), widen(teacher)))
    return (((one * other).mean(0) - 1).square().clamp_min(1e-12) ** alpha).sum().log2()


def mutual_information(student: Tensor, teacher: Tensor) -> Tensor:
    """||G_s||^2 - ||G_st||^2 of the Gram matrices of unit features, each divided by its trace; G_st = G_s * G_t.

    The second-order form of ITRD's mutual information (arXiv:2112.00459), without the logarithms, as the authors' code.

    Args:
        student: (B, D).
        teacher: (B, D'), D' may differ.

    >>> import torch
    >>> s = torch.tensor([[1.0, 2.0], [0.0, 1.0], [3.0, 1.0]])
    >>> t = torch.tensor([[2.0, 2.0], [1.0, 0.0], [1.0, 1.0]])
    >>> round(mutual_information(s, t).item(), 4)
    0.1
    """
    own, theirs = (gram(F.normalize(widen(x))) for x in (student, teacher))
    both = own * theirs
    # Features that are all 0, of a network that is dead so far, have nothing in common.
    own, both = (one / one.trace().clamp_min(1e-12) for one in (own, both))
    return own.square().sum() - both.square().sum()


@dataclass(eq=False, repr=False)
class CorrelationInformation(Loss):
    """`correlation_information` as a module: loss(student, teacher)."""

    alpha: float = 1.01
    whole_batch: ClassVar[bool] = True

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return correlation_information(learner, source, self.alpha)


@dataclass(eq=False, repr=False)
class MutualInformation(Loss):
    """`mutual_information` as a module: loss(student, teacher)."""

    whole_batch: ClassVar[bool] = True

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return mutual_information(learner, source)
