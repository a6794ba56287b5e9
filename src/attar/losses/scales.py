"""Logits at several scales (SDD): the image as a whole and its parts, each a distillation of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from attar.errors import PairError
from attar.losses.checks import check_same_shape, label_mask
from attar.losses.decoupled import nckd, tckd
from attar.losses.loss import Loss
from attar.losses.numerics import widen


def cell_logits(logits_map: Tensor, scales: tuple[int, ...] = (1, 2, 4)) -> Tensor:
    """A map of logits (B, K, H, W) averaged over s x s cells for each scale s: (B, N, K), N the sum of s^2.

    >>> cell_logits(torch.zeros(2, 10, 8, 8)).shape
    torch.Size([2, 21, 10])
    """
    pooled = [F.adaptive_avg_pool2d(widen(logits_map), scale).flatten(2) for scale in scales]
    return torch.cat(pooled, dim=2).mT


def scale_decoupled(
    student_cells: Tensor,
    teacher_cells: Tensor,
    labels: Tensor,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    complementary: float = 2.0,
) -> Tensor:
    """SDD: DKD of every cell, averaged over cells and images (arXiv:2403.13512).

    A cell weighs `complementary` where the teacher is right about the cell and wrong about the whole image or the other
    way round, else 1.

    Args:
        student_cells: (B, N, K) logits; the first cell is the whole image.
        teacher_cells: the same shape.
        labels: (B,) class numbers.
        alpha: of the label's own class (1).
        beta: of the other classes (8).
        temperature: T (4).
        complementary: weight of cells that disagree with the whole (2).

    >>> S = torch.tensor([[[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]]])
    >>> T = torch.tensor([[[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]]])
    >>> round(scale_decoupled(S, T, torch.tensor([0])).item(), 4)
    1.0287
    """
    check_same_shape(student_cells, teacher_cells, "average both networks' logits over the same cells", PairError)
    label_mask(student_cells[:, 0], labels)
    right = teacher_cells.argmax(2) == labels[:, None]
    weight = torch.where(right == right[:, :1], 1.0, complementary)
    own = labels[:, None].expand_as(right).flatten()
    rows = student_cells.flatten(0, 1), teacher_cells.flatten(0, 1), own, temperature, "none"
    terms = alpha * tckd(*rows) + beta * nckd(*rows)
    return (terms * weight.flatten()).mean()


@dataclass(eq=False, repr=False)
class ScaleDecoupled(Loss):
    """`scale_decoupled` as a module: loss(student_cells, teacher_cells, labels)."""

    alpha: float = 1.0
    beta: float = 8.0
    temperature: float = 4.0
    complementary: float = 2.0

    def target_class(self) -> ScaleDecoupled:
        return ScaleDecoupled(self.alpha, 0.0, self.temperature, self.complementary)

    def forward(self, learner: Tensor, source: Tensor, labels: Tensor) -> Tensor:
        settings = self.alpha, self.beta, self.temperature, self.complementary
        return scale_decoupled(learner, source, labels, *settings)
