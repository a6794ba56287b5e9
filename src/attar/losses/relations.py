"""Relational distillation: the distances between samples, and the angles of triplets."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from attar.errors import AttarError
from attar.losses.checks import check_same_batch
from attar.losses.loss import Loss
from attar.losses.numerics import gram, widen
from attar.losses.parts import parts_of, recomputed

_TINY = 1e-12
# Samples whose angles a step can compute; the nodes of a graph may be more.
MOST_ANGLES = 1024
# What the cosines of points are computed from.
Sides = tuple[Tensor, Tensor]


def _distances(points: Tensor) -> Tensor:
    """(B, B) Euclidean distances without the cancellation of the Gram form; the gradient at distance 0 is 0."""
    return torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")


def _relative_distances(points: Tensor) -> Tensor:
    """(B, B) distances in units of the mean positive one; all 0 where there is none."""
    distances = _distances(points)
    mean = distances.sum() / (distances > 0).sum().clamp(min=1)
    return distances / torch.where(mean > 0, mean, 1.0)


def _sides(points: Tensor) -> tuple[Tensor, Tensor]:
    """(B, B) inner products of the centred points, and 1 / their distances; 0 where two coincide."""
    # Centring keeps the digits that (x_j - x_i)(x_k - x_i) would lose in the Gram form.
    inner = gram(points - points.mean(0))
    distances = _distances(points)
    apart = distances > _TINY
    return inner, torch.where(apart, 1.0 / torch.where(apart, distances, 1.0), 0.0)


def _cosines(inner: Tensor, inverse: Tensor, rows: slice | None) -> Tensor:
    """(rows, B, B): entry i, j, k is the cosine at i between j and k; 0 where one of them coincides with i."""
    squares = inner.diagonal()
    own, mine, apart = (one if rows is None else one[rows] for one in (inner, squares, inverse))
    legs = mine[:, None] - own
    dots = inner[None] - own[:, :, None] + legs[:, None, :]
    return dots * apart[:, :, None] * apart[:, None, :]


def _gap_of_cosines(learner: Sides, source: Sides, rows: slice | None = None) -> Tensor:
    """The mean Huber loss between the cosines at some of the points, or at all."""
    return F.smooth_l1_loss(_cosines(*learner, rows), _cosines(*source, rows))


def _points(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    check_same_batch(student, teacher)
    return widen(student).flatten(1), widen(teacher).flatten(1)


def rkd_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss between pairwise distances, each over its own mean positive one (RKD-D, arXiv:1904.05068).

    The widths of the two features may differ. Fewer than two distinct samples give 0.

    Args:
        student: (B, D_s) embeddings; further dimensions are flattened.
        teacher: (B, D_t) embeddings.

    Deviates: the mean over all B x B entries, as in the authors' code, where the paper sums.

    >>> v_s = torch.tensor([[1.0, 0, 2], [0, 1, 1], [2, 1, 0]])
    >>> v_t = torch.tensor([[1.0, 1, 0, 0], [0, 2, 1, 0], [0, 0, 1, 3]])
    >>> round(rkd_distance(v_s, v_t).item(), 4)
    0.0092
    """
    learner, source = _points(student, teacher)
    return F.smooth_l1_loss(_relative_distances(learner), _relative_distances(source))


class RKDDistance(Loss):
    """`rkd_distance` as a module: loss(student, teacher). The authors weight it 25."""

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return rkd_distance(learner, source)


def rkd_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss between the cosines of all triplets of samples (RKD-A, arXiv:1904.05068).

    The widths of the two features may differ. The time is B x B x B, whatever the width; the memory B x B, since the
    cosines of a large batch are computed some points at a time, and once more on the way back.

    Args:
        student: (B, D_s) embeddings; further dimensions are flattened.
        teacher: (B, D_t) embeddings.

    Deviates: the mean over all B x B x B entries, as in the authors' code, where the paper sums.

    Raises:
        AttarError: there are more than 1,024 samples, whose cosines are more than a billion.

    >>> v_s = torch.tensor([[1.0, 0, 2], [0, 1, 1], [2, 1, 0]])
    >>> v_t = torch.tensor([[1.0, 1, 0, 0], [0, 2, 1, 0], [0, 0, 1, 3]])
    >>> round(rkd_angle(v_s, v_t).item(), 4)
    0.0044
    """
    if len(student) > MOST_ANGLES:
        raise AttarError(
            f"the angles of all triplets of {len(student):,} samples are {len(student) ** 3 / 1e9:,.0f} billion "
            "numbers a step; give smaller batches, leave them out (method.angle=0), or choose another relation (pkt, "
            "sp, cc)"
        )
    learner, source = (_sides(points) for points in _points(student, teacher))
    count = len(student)
    parts = parts_of(count, count**2)
    if len(parts) == 1:
        return _gap_of_cosines(learner, source)
    gaps = [recomputed(_gap_of_cosines, learner, source, rows) * (rows.stop - rows.start) for rows in parts]
    return torch.stack(gaps).sum() / count


class RKDAngle(Loss):
    """`rkd_angle` as a module: loss(student, teacher). The authors weight it 50."""

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return rkd_angle(learner, source)
