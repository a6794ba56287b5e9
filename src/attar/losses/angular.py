"""Losses that spread several views of one teacher: near it between images, apart around it within each image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from attar.errors import AttarError
from attar.losses.checks import check_positive
from attar.losses.loss import Loss
from attar.losses.numerics import product, widen


def angular_inter(views: Tensor, teacher: Tensor, margin: float = 0.2, temperature: float = 0.07) -> Tensor:
    """Angular-KD's loss between images: every view finds its own image's teacher, and views near it part.

    The views' similarities v.t to the teacher's rows of the batch are logits at a temperature, the own row the right
    class; an own similarity of 1 - margin or more counts as 1 and teaches nothing. The mean cross-entropy is divided by
    the views. To it comes, over images all of whose views are nearer than the margin, the sum over pairs of views of
    softplus(v_i.v_j), divided by the pairs and the batch (Angular-KD, NeurIPS 2025).

    Deviates: the released code normalises features over the views there and so hardly finds an image; here each view
    has length 1, as in the first part.

    Args:
        views: (B, N, D), unit vectors or probabilities.
        teacher: (B, D), likewise.
        margin: 0.2, as released, where it is a parameter that never learns.
        temperature: 0.07.

    >>> views = torch.tensor([[[1.0, 0.0], [0.6, 0.8]], [[0.0, 1.0], [0.8, 0.6]]])
    >>> round(angular_inter(views, torch.eye(2)).item(), 4)
    0.7282
    """
    check_views(views, teacher)
    check_positive("temperature", temperature)
    views, teacher = widen(views), widen(teacher)
    images, count, _ = views.shape
    similarities = product(views.flatten(0, 1), teacher.mT).view(images, count, images)
    own = torch.eye(images, dtype=torch.bool, device=views.device)[:, None]
    held = similarities.masked_fill(own & (similarities >= 1 - margin), 1.0)
    labels = torch.arange(images, device=views.device).repeat_interleave(count)
    contrast = F.cross_entropy(held.flatten(0, 1) / temperature, labels) / count
    near = (views * teacher[:, None]).sum(2).amin(1) > 1 - margin
    pairs = F.softplus(product(views, views.mT)) * others(count, views)
    spread = (pairs.sum((1, 2)) * near).sum() / (count * (count - 1) * images)
    return contrast + spread


def angular_intra(views: Tensor, teacher: Tensor) -> Tensor:
    """Angular-KD's loss within an image: the directions from the views to the teacher part.

    softplus of the cosines between (teacher - view_i) and (teacher - view_j), averaged over the batch before softplus
    and over i != j after it.

    Args:
        views: (B, N, D).
        teacher: (B, D).

    >>> views = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    >>> round(angular_intra(views, torch.zeros(1, 2)).item(), 4)
    0.3133
    """
    check_views(views, teacher)
    away = F.normalize(widen(teacher)[:, None] - widen(views), dim=2)
    cosines = product(away, away.mT).mean(0)
    count = len(cosines)
    return (F.softplus(cosines) * others(count, cosines)).sum() / (count * (count - 1))


def others(count: int, like: Tensor) -> Tensor:
    """(N, N): 1 for every pair of two different ones."""
    return 1 - torch.eye(count, device=like.device, dtype=like.dtype)


def check_views(views: Tensor, teacher: Tensor) -> None:
    """Two views or more of the teacher's rows."""
    if views.ndim != 3 or views.shape[1] < 2 or (len(views), views.shape[2]) != tuple(teacher.shape):
        raise AttarError(
            f"views are {tuple(views.shape)} of a teacher {tuple(teacher.shape)}; expected (B, N, D) with N from 2, "
            "and (B, D)"
        )


def prepared(rows: Tensor, softened: float | None) -> Tensor:
    """Probabilities at a temperature, or without one unit vectors, over the last dimension."""
    return F.normalize(widen(rows), dim=-1) if softened is None else (widen(rows) / softened).softmax(-1)


@dataclass(eq=False, repr=False)
class AngularInter(Loss):
    """`angular_inter` as a module: loss(views, teacher), of features, or of logits softened by a temperature."""

    softened: float | None = None
    margin: float = 0.2
    temperature: float = 0.07
    whole_batch: ClassVar[bool] = True  # every image is contrasted with the others

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        views, teacher = (prepared(one, self.softened) for one in (learner, source))
        return angular_inter(views, teacher, self.margin, self.temperature)


@dataclass(eq=False, repr=False)
class AngularIntra(Loss):
    """`angular_intra` as a module: loss(views, teacher), of features as they are, or of logits softened."""

    softened: float | None = None
    whole_batch: ClassVar[bool] = True  # cosines are averaged before softplus

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        if self.softened is not None:
            learner, source = (prepared(one, self.softened) for one in (learner, source))
        return angular_intra(learner, source)
